"""What the machine can give at most: bare loops of `session.run`, one process per core with one thread each.

No HTTP, no queue, no reply. A workload of one connection gets one process and batches of one: its next request comes
only after the reply. Others try single rows and the archive's own chunk, half of the time each, and the faster counts.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from handlers import payload
from handlers.network import Network
from handlers.spec import read_spec
from handlers.tasks import Item, Task, build_task
from loadtest.bench.workloads import Workload
from loadtest.errors import LoadTestError

Body = tuple[str, bytes]  # a model and what is sent to it


class _Model:
    def __init__(self, folder: Path) -> None:
        spec = read_spec(yaml.safe_load((folder / "model-config.yaml").read_bytes()))
        if spec.network is None:
            raise LoadTestError(f"{folder.name} runs no network")
        self.task: Task = build_task(spec, None)
        self.network = Network(folder, spec.network)

    def items(self, bodies: Sequence[bytes]) -> Sequence[Item]:
        instances = [payload.parse({"body": body}).instances[0] for body in bodies]
        return self.task.gather([self.task.decode(one) for one in instances if not isinstance(one, Exception)])

    def run(self, items: Sequence[Item]) -> None:
        self.network.run([item.array for item in items if item.array is not None])


def limit(workload: Workload, models: Path, seconds: float) -> dict[str, Any]:
    """Figures as `measure.load` gives them, and the same without decoding. Raises LoadTestError."""
    processes = min(os.cpu_count() or 1, workload.connections)
    names = dict.fromkeys(ask.model for ask in workload.asks)
    chunk = max(_Model(models / name).network.spec.chunk for name in names)
    batches = sorted({1, min(chunk, workload.connections // processes)})
    bodies = [(ask.model, ask.body) for ask in workload.asks]
    runs = [_run(bodies, models, processes, batch, decoding, seconds / 2) for batch in batches for decoding in (1, 0)]
    best = max((run for run in runs if run["decoding"]), key=lambda run: run["rps"])
    bare = max((run for run in runs if not run["decoding"]), key=lambda run: run["rps"])
    return {
        "rps": best["rps"],
        "p50_ms": best["p50_ms"],
        "p99_ms": best["p99_ms"],
        "errors": 0,
        "batch": best["batch"],
        "processes": processes,
        "rps_without_decoding": bare["rps"],
        "batch_without_decoding": bare["batch"],
    }


def _run(
    bodies: Sequence[Body], models: Path, processes: int, batch: int, decoding: int, seconds: float
) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(processes)
    pipes, children = [], []
    for _ in range(processes):
        mine, theirs = context.Pipe(duplex=False)
        arguments = (theirs, barrier, list(bodies), models, batch, bool(decoding), seconds)
        child = context.Process(target=_loop, args=arguments, daemon=True)  # ends with this process, however it ends
        child.start()
        theirs.close()
        pipes.append(mine)
        children.append(child)
    try:
        times = [pipe.recv() for pipe in pipes]
    except EOFError:
        raise LoadTestError("a process of the limit ended early") from None
    finally:
        for child in children:
            child.terminate()
            child.join()
    milliseconds = [1000 * one for process in times for one in process]
    return {
        "rps": sum(batch * len(process) / sum(process) for process in times),
        "p50_ms": statistics.median(milliseconds),
        "p99_ms": float(np.percentile(milliseconds, 99)),
        "batch": batch,
        "decoding": decoding,
    }


def _loop(
    pipe: Connection, barrier: Barrier, bodies: list[Body], models: Path, batch: int, decoding: bool, seconds: float
) -> None:
    """Send the seconds of every batch; all processes start together."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    loaded = {name: _Model(models / name) for name in dict.fromkeys(name for name, _ in bodies)}
    steps: list[Callable[[], None]] = []
    by_model: Mapping[str, list[bytes]] = {name: [body for one, body in bodies if one == name] for name in loaded}
    for index in range(max(map(len, by_model.values()))):  # models take turns, as the requests of a workload do
        for name, own in by_model.items():
            chosen = [own[(index * batch + shift) % len(own)] for shift in range(batch)]
            steps.append(_step(loaded[name], chosen, decoding))
    for step in steps[: 2 * len(loaded)]:
        step()
    times: list[float] = []
    barrier.wait()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        step = steps[len(times) % len(steps)]
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    pipe.send(times)


def _step(model: _Model, bodies: Sequence[bytes], decoding: bool) -> Callable[[], None]:
    if decoding:
        return lambda: model.run(model.items(bodies))
    ready = model.items(bodies)
    return lambda: model.run(ready)
