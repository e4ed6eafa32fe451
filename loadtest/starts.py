"""How long `marserve serve` takes until it is ready, and how much memory all of it has then.

`python -m loadtest.starts --rounds 5`, and with `--broken` beside an archive with a flipped byte and one whose handler
raises. Where nothing else runs, that is: the figures are the machine's as much as the server's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path

from loadtest.bench.processes import Tree, free_port
from loadtest.bench.store import ROOT
from loadtest.reliability.stack import wait_until_ready
from marserve.rundir import RunDir

RAISES = (
    "class Broken:\n    def initialize(self, context):\n        raise KeyError('broken')\n    handle = initialize\n"
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m loadtest.starts", description=__doc__)
    parser.add_argument("--model-store", type=Path, default=ROOT / "model_store", metavar="DIR")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--broken", action="store_true", help="beside two archives that fail")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="starts-") as scratch:
        store = Path(scratch, "store")
        store.mkdir()
        for path in sorted(args.model_store.resolve().glob("*.mar")):
            (store / path.name).symlink_to(path)
        if args.broken:
            _add_broken(store)
        found = [_start(store, Path(scratch)) for _ in range(args.rounds)]
    seconds, memory = ([round(one[index], 1) for one in found] for index in (0, 1))
    print(f"seconds until ready: {', '.join(map(str, seconds))}; median {statistics.median(seconds)}")
    print(f"memory in MB (proportional set size): {', '.join(map(str, memory))}; median {statistics.median(memory)}")
    return 0


def _start(store: Path, folder: Path) -> tuple[float, float]:
    """Seconds, and MB of Java, the workers and marserve itself."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "marserve", "serve", "--fresh", "--no-overrides", "--port", str(port)]
    command += ["--model-store", str(store), "--config", str(ROOT / "config.properties")]
    began = time.monotonic()
    with Tree(command, {"XDG_STATE_HOME": str(folder)}, folder, folder / "server.log") as tree:
        wait_until_ready(tree, RunDir(port))
        return time.monotonic() - began, tree.memory_mb()


def _add_broken(store: Path) -> None:
    manifest = {"runtime": "python", "model": {"modelName": "broken", "modelVersion": "1.0", "handler": "broken.py"}}
    path = store / "broken.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest))
        archive.writestr("broken.py", RAISES)
    (store / "flipped.mar").write_bytes(path.read_bytes().replace(b"KeyError", b"keyError", 1))


if __name__ == "__main__":
    sys.exit(main())
