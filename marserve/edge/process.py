"""One HAProxy: checked, started, told what to do over its own socket, drained, stopped. Knows no command line."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from marserve.background import Flag, die_with_parent, prctl
from marserve.edge.haproxy import USER
from marserve.errors import MarserveError
from marserve.rundir import RunDir

STOP_TIMEOUT = 5.0  # seconds beyond those that requests get to end
START_TIMEOUT = 10.0
_ALERT = re.compile(r"^\[ALERT\] +\(\d+\) : (?:config : )?(.*)$", re.MULTILINE)
# Buffers of megabytes would be taken from the kernel and given back with every request, a fifth of HAProxy's time.
MALLOC = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=268435456"


class EdgeDir(RunDir):
    """The private folder of one edge."""

    what, stop_command, prefix = "marserve edge", "marserve edge stop", "edge-"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.config = self.root / "haproxy.cfg"
        self.commands = self.root / "commands.sock"
        self.options = self.root / "options.json"  # what `marserve edge reload` starts from
        self._keys_file = self.root / "keys.path"
        self._access_log_file = self.root / "access_log.path"
        self.jail = self.root / "empty"
        self.messages = self.logs / "haproxy.log"

    def folders(self) -> tuple[Path, ...]:
        return (self.root, self.logs, self.jail)

    def write_keys_file(self, path: Path | None) -> None:
        """Which file this edge has its keys from."""
        self._keys_file.write_text(str(path.resolve()) if path else "")

    def read_keys_file(self) -> Path | None:
        with suppress(OSError):
            return Path(text) if (text := self._keys_file.read_text()) else None
        return None

    def write_access_log_file(self, path: Path) -> None:
        """Where this edge's access log is."""
        self._access_log_file.write_text(str(path.resolve()))

    def read_access_log_file(self) -> Path:
        """A line for each request, as docs/edge.md has it; when it is full it becomes `NAME.1` and is begun anew.

        Raises MarserveError where no edge is running.
        """
        try:
            return Path(self._access_log_file.read_text())
        except OSError:
            raise MarserveError(f"no {self.what} of yours is running on port {self.port}") from None

    @classmethod
    def all_running(cls) -> list[EdgeDir]:
        """Those of this user."""
        found = [cls(int(path.stem.removeprefix(cls.prefix))) for path in cls.base().glob(f"{cls.prefix}*.lock")]
        return [rundir for rundir in found if rundir.running() is not None]


def find_haproxy() -> str:
    """Raises MarserveError where there is none. Debian has it in a folder that only root's PATH names."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin")
    if found is None:
        raise MarserveError("haproxy is not installed: run `make deps`, or `apt-get install haproxy`")
    return found


def jail(folder: Path) -> Path | None:
    """The folder for a HAProxy that root starts and that then becomes another user; None where it stays who it is."""
    if os.geteuid() != 0:
        return None
    with suppress(KeyError):
        pwd.getpwnam(USER)
        return folder
    return None


def check(config: Path) -> None:
    """Raises MarserveError with HAProxy's own reason where it would not take the file."""
    done = subprocess.run(
        [find_haproxy(), "-c", "-f", str(config)], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode:
        raise MarserveError(f"HAProxy refuses the configuration: {first_alert(done.stderr)}")


def first_alert(text: str) -> str:
    return next((m[1].strip() for m in _ALERT.finditer(text)), text.strip()[-300:] or "it does not say why")


class EndedError(MarserveError):
    """HAProxy ended before it was ready."""


class HAProxy:
    """Started by the constructor; `stop` leaves no process behind."""

    def __init__(self, rundir: EdgeDir, log: int) -> None:
        """`log` is the file descriptor for its lines. The configuration is `rundir.config`."""
        self._rundir = rundir
        self._messages: IO[bytes] = rundir.messages.open("ab")
        self._begin = rundir.messages.stat().st_size
        self._process = subprocess.Popen(
            [find_haproxy(), "-W", "-S", f"{rundir.commands},mode,600", "-f", str(rundir.config)],
            env=os.environ | {"GLIBC_TUNABLES": MALLOC},
            cwd=rundir.root,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=self._messages,
            start_new_session=True,
            preexec_fn=_set_up,
        )

    def wait_until_ready(self) -> None:
        """Raises EndedError where it ends instead, MarserveError where it takes too long."""
        deadline = time.monotonic() + START_TIMEOUT
        while not processes(self._rundir).workers:
            if self._process.poll() is not None:
                raise EndedError(f"HAProxy ended by itself{self.why()}")
            if time.monotonic() > deadline:
                raise MarserveError(f"HAProxy is not ready after {START_TIMEOUT:.0f} s{self.why()}")
            time.sleep(0.02)

    def wait(self, stopping: Flag) -> int | None:
        """None once `stopping` is set; before that, with what its master process has ended (`Popen.returncode`)."""
        while not stopping:
            if (code := self._process.poll()) is not None:
                return code
            time.sleep(0.1)
        return None

    def stop(self, drain: float) -> None:
        """New connections are refused at once; requests get `drain` seconds to end."""
        for number, patience in ((signal.SIGUSR1, drain), (signal.SIGTERM, STOP_TIMEOUT)):
            if self._process.poll() is None:
                self._process.send_signal(number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(patience)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._messages.close()

    def why(self) -> str:
        """What it has said of itself."""
        said = self._rundir.messages.read_bytes()[self._begin :].decode(errors="replace")
        return f": {first_alert(said)} (logs: {self._rundir.logs})"


def command(rundir: EdgeDir, text: str) -> str:
    """Ask the master process, or with `@!PID` before it a worker. Raises OSError where it does not answer."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(START_TIMEOUT)
        connection.connect(str(rundir.commands))
        connection.sendall(f"{text}\n".encode())
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        while chunk := connection.recv(65536):
            reply += chunk
    return reply.decode(errors="replace")


@dataclass(frozen=True, slots=True)
class Processes:
    """The process ids of HAProxy's workers, those that only end what they have begun, and how many reloads failed."""

    workers: frozenset[int] = frozenset()
    old: frozenset[int] = frozenset()
    failures: int = 0


def processes(rundir: EdgeDir) -> Processes:
    """As its master process says; nothing where that does not answer, as while it starts."""
    try:
        head, _, rest = command(rundir, "show proc").partition("# workers")
    except OSError:
        return Processes()
    new, _, old = rest.partition("# old workers")
    failed = re.search(r"\[failed: (\d+)\]", head)
    return Processes(_workers(new), _workers(old), int(failed[1]) if failed else 0)


def _workers(section: str) -> frozenset[int]:
    return frozenset(int(line.split()[0]) for line in section.splitlines() if " worker " in line)


def reload(rundir: EdgeDir) -> None:
    """Let a new worker take over the listening sockets; the old ones end what they have begun.

    The new configuration is in place and checked. Raises MarserveError where it does not come up: the old one stays.
    """
    before = processes(rundir)
    size = rundir.messages.stat().st_size
    with suppress(OSError):
        command(rundir, "reload")
    deadline = time.monotonic() + START_TIMEOUT
    while not (now := processes(rundir)).workers - before.workers:
        if now.failures > before.failures or time.monotonic() > deadline:
            said = rundir.messages.read_bytes()[size:].decode(errors="replace")
            raise MarserveError(f"HAProxy keeps the settings it has: {first_alert(said)}")
        time.sleep(0.05)


def _set_up() -> None:
    """In the new process. Its buffers are large and mostly empty: huge pages would make every slow client dear."""
    die_with_parent()
    pr_set_thp_disable = 41
    prctl(pr_set_thp_disable, 1, 0, 0, 0)
