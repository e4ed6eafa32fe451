"""One private folder per running server: its temporary files, logs, examples, metrics, and who runs it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from marserve.errors import MarserveError
from marserve.failures import Failure


@dataclass(frozen=True, slots=True)
class State:
    """What `marserve stop`, a detaching `marserve serve` and `marserve models` need to know."""

    pid: int
    ready: bool
    grace: float = 0.0  # seconds that it may take to end, beyond what stopping takes
    # Absolute paths, of a server alone.
    model_store: str = ""
    overrides: str = ""  # the folder with them, if they count
    kept: str = ""  # the file with what is served (state.py)
    failed: tuple[Failure, ...] = ()


_MAX_SOCKET_PATH = 107  # bytes that a Unix socket's address holds


class RunDir:
    """`<runtime folder>/marserve-<user>/<REST port>`, for this user's eyes only."""

    what, stop_command, prefix = "marserve", "marserve stop", ""

    def __init__(self, port: int) -> None:
        base = self.base()
        try:
            base.mkdir(mode=0o700, exist_ok=True)
            status = base.lstat()
        except OSError as error:
            raise MarserveError(f"cannot make the folder {base}: {error.strerror}") from None
        if base.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
            raise MarserveError(f"{base} must be a folder that only you can open; remove it or fix its owner and mode")
        self.port = port
        self.root = base / f"{self.prefix}{port}"
        if len(str(self.root / "tmp" / ".ts.sock.9999")) > _MAX_SOCKET_PATH:
            raise MarserveError(f"the path {base} is too long for the workers' sockets: set TMPDIR to a shorter one")
        self.logs = self.root / "logs"
        self.temporary = self.root / "tmp"
        self.examples = self.root / "examples"
        self.metrics = self.root / "metrics"  # the workers' files; those of workers that have ended stay
        self.slots = self.root / "slots"  # the workers' shared memory
        self.taps = self.root / "taps"  # where a shadow asks workers for copies
        self.classes = self.root / "classes"  # what goes before TorchServe's own
        self.config = self.root / "config.properties"
        self.trusted = self.root / "trusted.pem"  # public keys; there where signatures are asked for
        self.output = base / f"{self.prefix}{port}.out"  # what a detached server prints
        self._state = self.root / "state.json"
        self._lock_file = base / f"{self.prefix}{port}.lock"
        self._lock: int | None = None

    @staticmethod
    def base() -> Path:
        return Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()) / f"marserve-{os.getuid()}"

    def lock(self) -> None:
        """Hold it for this process. Raises MarserveError while another server does."""
        lock = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locked(lock):
            os.close(lock)
            raise MarserveError(
                f"a {self.what} is running on port {self.port} already: "
                f"`{self.stop_command} --port {self.port}`, or choose another --port"
            )
        self._lock = lock  # until this process ends

    @property
    def crashed(self) -> bool:
        """Whether the server before this one, whose lock is free, has left in a hurry."""
        return self._state.exists()

    def make(self) -> None:
        """Make it anew; what an earlier server left there goes."""
        shutil.rmtree(self.root, ignore_errors=True)
        for folder in self.folders():
            folder.mkdir(mode=0o700)

    def folders(self) -> tuple[Path, ...]:
        return (self.root, self.logs, self.temporary, self.examples, self.metrics, self.slots, self.taps)

    def renew(self) -> None:
        """For another process in the place of one that died: its logs become NAME.1, its temporary files go."""
        for log in self.logs.glob("*.log"):
            log.replace(log.with_name(f"{log.name}.1"))
        shutil.rmtree(self.temporary)
        self.temporary.mkdir(mode=0o700)

    def write_state(self, state: State) -> None:
        part = self._state.with_suffix(".part")
        part.write_text(json.dumps(asdict(state)))
        part.replace(self._state)

    def running(self) -> State | None:
        """The state of the server that holds this folder, or None."""
        try:
            lock = os.open(self._lock_file, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            try:
                content = json.loads(self._state.read_text())
                failed = tuple(Failure(**one) for one in content.pop("failed", ()))
                return State(**content, failed=failed)
            except (OSError, ValueError, TypeError, AttributeError):
                return None  # it has only just taken the folder
        finally:
            os.close(lock)
        return None

    def remove(self, keep_logs: bool) -> None:
        """Remove what the server left; the logs stay where they explain a failure."""
        self._state.unlink(missing_ok=True)
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if not (keep_logs and path == self.logs):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not keep_logs:
            shutil.rmtree(self.root, ignore_errors=True)


def _locked(lock: int) -> bool:
    """Take the lock, if no server has it. `running` elsewhere holds it for a moment: one refusal says nothing."""
    for _ in range(10):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return True
    return False
