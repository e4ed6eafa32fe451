"""Another process' TCP sockets, as the kernel tells of them: which are about a request, and no new ones (Linux)."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# sock_diag(7), and tcp_info of linux/tcp.h
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE, _ERROR = 3, 2
_INFO = 2  # INET_DIAG_INFO
_OPEN = 1 << 1 | 1 << 8  # the states ESTABLISHED and CLOSE_WAIT
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, process
_ASK = struct.Struct("=BBBBI2s2s44s")  # family, protocol, extensions, -, states, port, no other port, any addresses
_QUEUES = struct.Struct("=52x4xII")  # of inet_diag_msg: not yet read, not yet acknowledged
_TOLD = 72  # its bytes
_ATTRIBUTE = struct.Struct("=HH")
_TIMES = struct.Struct("=44xI4xI")  # of tcp_info: milliseconds since the last data went out, and since it came in
_PIDFD_GETFD = 438
_LISTENING = "0A"


class Connection(NamedTuple):
    unread: int  # bytes that the server has not taken yet
    unsent: int  # bytes that the client has not got yet
    sent_ago: int  # milliseconds
    received_ago: int

    @property
    def busy(self) -> bool:
        """Whether there is surely a request, or a part of one, or of its reply.

        Not where the last bytes went both ways within the same tick of the kernel's clock: that may be either.
        """
        return self.unread > 0 or self.unsent > 0 or self.received_ago < self.sent_ago


def connections(port: int) -> list[Connection]:
    """Those that servers on this machine have open on that port. Raises OSError where the kernel does not tell."""
    return [found for family in (socket.AF_INET, socket.AF_INET6) for found in _dump(family, port)]


def stop_listening(pid: int, ports: Iterable[int]) -> None:
    """Let new connections to these ports of a child process be refused, while open ones go on.

    Its listening sockets are duplicated (pidfd_getfd(2), which takes the right to trace it) and shut down. Where that
    is forbidden, as in some containers, new connections are still accepted.
    """
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return
    try:
        for descriptor in _listening(pid, set(ports)):
            own = ctypes.CDLL(None).syscall(_PIDFD_GETFD, process, descriptor, 0)
            if own >= 0:
                with socket.socket(fileno=own) as listener, suppress(OSError):
                    listener.shutdown(socket.SHUT_RDWR)
    finally:
        os.close(process)


def _listening(pid: int, ports: set[int]) -> Iterator[int]:
    """The process' descriptors of sockets that listen on the ports."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc", str(pid), "net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) in ports:
                    inodes.add(f"socket:[{fields[9]}]")
    for path in Path("/proc", str(pid), "fd").iterdir():
        with suppress(OSError):
            if str(path.readlink()) in inodes:
                yield int(path.name)


def _dump(family: int, port: int) -> Iterator[Connection]:
    ask = _ASK.pack(family, socket.IPPROTO_TCP, 1 << _INFO - 1, 0, _OPEN, port.to_bytes(2), b"", b"")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(1)
        kernel.send(_HEADER.pack(_HEADER.size + len(ask), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + ask)
        while True:
            data = kernel.recv(1 << 16)
            while data:
                length, kind, _, _, _ = _HEADER.unpack_from(data)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError("the kernel does not tell of connections")
                yield _read(data[_HEADER.size : length])
                data = data[(length + 3) & ~3 :]


def _read(message: bytes) -> Connection:
    unread, unsent = _QUEUES.unpack_from(message)
    at = _TOLD
    while at < len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == _INFO:
            return Connection(unread, unsent, *_TIMES.unpack_from(message, at + _ATTRIBUTE.size))
        at += (length + 3) & ~3
    return Connection(unread, unsent, 0, 0)
