"""A batch of requests -> one reply each. No TorchServe in here: tests and offline tools call it directly.

One item's failure costs that item alone. What one instance did wrong is its own reply, and the rest of the batch runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from handlers import payload
from handlers.errors import InvalidContentError, RequestError, SpecError
from handlers.guard import UNLIMITED, Budget, Unlimited, guard, too_long
from handlers.metrics import Stages
from handlers.network import Network
from handlers.options import Options, check
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task, build_task

# A hundred crafted instances could keep a worker from everyone else's requests until TorchServe kills it: all requests
# of a batch together must stay below the response time-out.
REQUEST_SECONDS = 0.5  # for decoding, and again for gathering and for encoding
GATHERED = 32  # items that a task gathers at once; between two such chunks the budgets are looked at


class Reply(NamedTuple):  # as Item and Payload: a tuple is made in half the time of a frozen dataclass
    status: HTTPStatus
    body: bytes


Answer = dict[str, Any] | RequestError


class Pipeline:
    """One loaded model."""

    def __init__(self, task: Task, network: Network | None, decode_threads: int = 1) -> None:
        self._task = task
        self.network = network
        # Both give results in the order of the calls; a pool's threads work ahead of whoever takes them.
        many = decode_threads > 1
        self._map: Callable[..., Iterator[Item | RequestError]]
        self._map = ThreadPoolExecutor(decode_threads, "decode").map if many else map
        self._gathers = type(task).gather is not Task.gather
        # What is gathered first needs all items, and where no network runs there is nothing to overlap with.
        self._overlaps = many and network is not None and not self._gathers
        self.stages = Stages()

    @classmethod
    def load(cls, folder: Path, spec: HandlerSpec, gpu_id: int | None = None, pool: Path | None = None) -> Pipeline:
        """From an unpacked archive, with a pool for tasks that draw from one. Raises SpecError."""
        if spec.samples:
            spec = replace(spec, samples=str(folder / spec.samples))
        task = build_task(spec, Pool(pool) if pool else None)
        if spec.network is None:
            return cls(task, None, spec.decode_threads)
        network = Network(folder, spec.network, gpu_id)
        zeros = np.zeros(spec.network.input_shape, spec.network.input_type)
        try:
            task.encode(Item(zeros), network.run([zeros])[0])
        except Exception as error:  # as many labels as outputs, say
            raise SpecError(f"{spec.task} cannot read what {spec.network.file} puts out: {error}") from error
        return cls(task, network, spec.decode_threads)

    @property
    def form(self) -> Mapping[str, Any] | None:
        """Of an answer, where the same request is never answered the same."""
        return self._task.form

    @property
    def options(self) -> Options:
        """What a request may set in fields beside its content."""
        return self._task.options

    def __call__(self, rows: Sequence[Mapping[str, Any]], explain: Sequence[bool] | None = None) -> list[Reply]:
        """Requests as TorchServe hands them over -> replies, in order; `explain` says which came to be explained."""
        self.stages.start()
        payloads = [guard(payload.parse, row, self.options) for row in rows]
        instances: list[payload.Instance | RequestError] = []
        budgets: list[Budget | Unlimited] = []
        asked: list[bool] = []
        for parsed, ask in zip(payloads, explain or [False] * len(rows), strict=True):
            if isinstance(parsed, payload.Payload):
                instances += parsed.instances
                budgets += [Budget(REQUEST_SECONDS) if parsed.many else UNLIMITED] * len(parsed.instances)
                asked += [ask] * len(parsed.instances)
        answers = map(_reply, self.answer(instances, budgets, asked))
        replies = []
        for parsed in payloads:
            if isinstance(parsed, RequestError):
                replies.append(_reply(parsed))
            elif parsed.many:
                bodies = b",".join(next(answers).body for _ in parsed.instances)
                replies.append(Reply(HTTPStatus.OK, b'{"predictions":[' + bodies + b"]}"))
            else:
                replies.append(next(answers))
        self.stages.end("encode")
        return replies

    def answer(
        self,
        instances: Sequence[payload.Instance | RequestError],
        budgets: Sequence[Budget | Unlimited] | None = None,
        explain: Sequence[bool] | None = None,
    ) -> list[Answer]:
        """Decode, gather, run and encode instances; an instance that is an error already stays one.

        `budgets` has the budget of the request that each instance came in; without them there is no limit. An answer
        is explained where `explain` says so, or its instance.
        """
        budgets = budgets or [UNLIMITED] * len(instances)
        wishes = list(map(_wish, instances, explain or [False] * len(instances)))
        items: list[Item | RequestError] = []
        decoded = self._map(self._decode, (instance for instance, _ in wishes), budgets)
        if self._overlaps:
            rows = iter(self._run(_arrays(_noted(decoded, items))))
        else:
            items += decoded
            if self._gathers:
                self._gather(items, budgets)
            self.stages.end("decode")
            rows = iter(self._run(_arrays(items)))
        self.stages.end("run")
        for budget in set(budgets):
            budget.renew()
        answers: list[Answer] = []
        for item, budget, (_, explained) in zip(items, budgets, wishes, strict=True):
            if isinstance(item, RequestError):
                answers.append(item)
                continue
            row = {} if item.array is None else next(rows)
            encode = self._encode_and_explain if explained else self._task.encode
            answers.append(row if isinstance(row, RequestError) else budget.guard(encode, item, row))
        return answers

    def _decode(self, instance: payload.Instance | RequestError, budget: Budget | Unlimited) -> Item | RequestError:
        decoded: Item | RequestError
        decoded = instance if isinstance(instance, RequestError) else budget.guard(self._checked, instance)
        return decoded

    def _checked(self, instance: payload.Instance) -> Item:
        if self.options and not isinstance(instance, bytes):
            instance = check(instance, self.options)
        return self._task.decode(instance)

    def _gather(self, items: list[Item | RequestError], budgets: Sequence[Budget | Unlimited]) -> None:
        """Put what the task gathers in the place of the items; where a chunk fails, each is tried alone."""
        for budget in set(budgets):
            budget.renew()
        decoded = [index for index, item in enumerate(items) if isinstance(item, Item)]
        for start in range(0, len(decoded), GATHERED):
            chunk = []
            for index in decoded[start : start + GATHERED]:
                if budgets[index].spent:
                    items[index] = too_long()
                else:
                    chunk.append(index)
            if not chunk:
                continue
            started = time.perf_counter()
            gathered = guard(self._task.gather, [items[index] for index in chunk])
            share = (time.perf_counter() - started) / len(chunk)
            for index in chunk:
                budgets[index].charge(share)
            if isinstance(gathered, RequestError):
                alone = [gathered]
                if len(chunk) > 1:
                    alone = [budgets[index].guard(self._task.gather, [items[index]]) for index in chunk]
                gathered = [one if isinstance(one, RequestError) else one[0] for one in alone]
            for index, item in zip(chunk, gathered, strict=True):
                items[index] = item

    def _encode_and_explain(self, item: Item, row: Row) -> dict[str, Any]:
        def run(arrays: Sequence[NDArray[Any]]) -> list[Row]:
            rows = []
            for row in self._run(arrays):
                if isinstance(row, RequestError):
                    raise row
                rows.append(row)
            return rows

        return self._task.encode(item, row) | {"explanation": self._task.explain(item, row, run)}

    def _run(self, arrays: Iterable[NDArray[Any]]) -> list[Row | RequestError]:
        """One row per array; where a chunk fails (out of memory, say), each of its items gets the error.

        A chunk's arrays are taken just before it is run.
        """
        if self.network is None:
            return []
        rows: list[Row | RequestError] = []
        left = iter(arrays)
        while chunk := list(islice(left, self.network.chunk)):
            ran = guard(self.network.run, chunk)
            rows += [ran] * len(chunk) if isinstance(ran, RequestError) else ran
        return rows


def _noted(items: Iterable[Item | RequestError], notes: list[Item | RequestError]) -> Iterator[Item | RequestError]:
    for item in items:
        notes.append(item)
        yield item


def _arrays(items: Iterable[Item | RequestError]) -> Iterator[NDArray[Any]]:
    """What the network is to run."""
    return (item.array for item in items if isinstance(item, Item) and item.array is not None)


def _wish(instance: payload.Instance | RequestError, ask: bool) -> tuple[payload.Instance | RequestError, bool]:
    """An instance without its "explain", which is no task's to read, and whether its answer is to be explained."""
    if not isinstance(instance, dict) or "explain" not in instance:
        return instance, ask
    wish = instance["explain"]
    if not isinstance(wish, bool):
        return InvalidContentError("'explain' must be true or false"), False
    return {name: value for name, value in instance.items() if name != "explain"}, ask or wish


def _reply(answer: Answer) -> Reply:
    if isinstance(answer, RequestError):
        return Reply(answer.status, _json(answer.body()))
    body = guard(_json, answer)  # no JSON: a NaN from the network, say
    return _reply(body) if isinstance(body, RequestError) else Reply(HTTPStatus.OK, body)


def _json(value: Any) -> bytes:
    """As orjson writes it, arrays of numbers too, but for null and lone surrogates. Raises ValueError for NaN and
    Infinity."""
    with suppress(orjson.JSONEncodeError):
        text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
        if b"null" not in text:  # orjson's word for NaN
            return text
    slow = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=np.ndarray.tolist)
    return slow.encode("utf-8", "replace")
