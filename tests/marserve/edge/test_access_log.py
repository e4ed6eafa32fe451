"""The access log: every line once, in one piece, in files that do not grow without end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from marserve.edge.access_log import AccessLog
from marserve.errors import MarserveError
from tests.paths import ROOT


def write(path: Path, chunks: list[bytes], rotate: int = 10**9) -> None:
    with AccessLog(path, rotate) as log:
        writer = os.dup(log.pipe)
        log.start()
        for chunk in chunks:
            os.write(writer, chunk)
        os.close(writer)


def test_lines_arrive_and_what_was_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    write(path, [b'{"a":1}\n{"b', b'":2}\n'])
    write(path, [b'{"c":3}\n'])
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n{"c":3}\n'
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_no_request_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    write(path, [b"Proxy rest stopped (FE: 1, BE: 0).\n", b'{"a":1}\nProxy grpc ', b'stopped\n{"b":2}\n'])
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n'


def test_a_file_that_is_full_makes_place(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    lines = [b'{"number":%d}\n' % number for number in range(5000)]
    write(path, lines, rotate=10_000)
    old = path.with_name("access.log.1")
    assert b"".join(lines).endswith(old.read_bytes() + path.read_bytes())
    assert max(old.stat().st_size, path.stat().st_size) < 10_000 + 65_536
    assert {entry.name for entry in tmp_path.iterdir()} == {"access.log", "access.log.1"}


def test_a_burst_waits_until_it_is_read(tmp_path: Path) -> None:
    """HAProxy does not wait: what does not fit at once is lost."""
    lines = b'{"a":1}\n' * 100_000
    with AccessLog(tmp_path / "access.log") as log:
        writer = os.dup(log.pipe)
        os.set_blocking(writer, False)
        assert os.write(writer, lines) == len(lines)
        log.start()
        os.close(writer)
    assert (tmp_path / "access.log").read_bytes() == lines


def test_standard_output_too(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom marserve.edge.access_log import AccessLog\n"
        "with AccessLog(Path(sys.argv[1]), also_stdout=True) as log:\n"
        "    writer = os.dup(log.pipe)\n    log.start()\n    os.write(writer, b'{}\\n')\n    os.close(writer)\n"
        "print('still open')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, check=True)
    assert (done.stdout, path.read_text()) == ("{}\nstill open\n", "{}\n")


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no" / "access.log"):
        with pytest.raises(MarserveError, match="cannot write the access log"):
            AccessLog(path)
