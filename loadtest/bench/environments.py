"""An environment of its own for every peer, from its lock: build/peers/NAME, made once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from loadtest.bench.store import BUILD
from loadtest.errors import LoadTestError

LOCKS = Path(__file__).parents[1] / "peers"
_TIMEOUT = 1200  # seconds for one environment


def make_environment(name: str, folder: Path = BUILD / "peers") -> Path:
    """The environment's Python. It is made anew when its lock has changed. Raises LoadTestError."""
    lock, home = LOCKS / f"{name}.txt", folder / name
    python, stamp = home / "bin" / "python", home / "lock.txt"
    if not lock.is_file():
        raise LoadTestError(f"there is no {lock.name} in loadtest/peers")
    if stamp.is_file() and stamp.read_text() == lock.read_text():
        return python
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    # The locks name every package: nothing is to be resolved. (Triton's wheel would refuse the others' numpy.)
    if uv is not None:
        _run([uv, "venv", "--quiet", "--python", sys.executable, str(home)])
        _run([uv, "pip", "install", "--quiet", "--no-deps", "--python", str(python), "-r", str(lock)])
    else:
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(lock)])
    stamp.write_text(lock.read_text())
    return python


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise LoadTestError(f"installing takes longer than {_TIMEOUT} s") from None
    if done.returncode:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise LoadTestError(f"cannot be installed: {said[-1][:300] if said else 'the installer said nothing'}")


def lock_version(name: str, package: str) -> str:
    """Of a package in a lock, or "" where it is not there."""
    for line in (LOCKS / f"{name}.txt").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.partition("==")[2].split()[0]
    return ""
