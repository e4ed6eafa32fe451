"""What a TorchServe worker does between two batches: it says so, refuses what comes too late, and starts anew.

A worker whose memory has passed its limit becomes a fresh process of the same id, by exec(2), that keeps the
connection to the front end and loads the model again (resume.py). The front end sees one batch that took longer.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from socket import socket
from types import ModuleType
from typing import Any

import slots  # of this folder, which is on PYTHONPATH
import tap
import wire

# Set by the model's handler when it has loaded (handlers/entry.py): megabytes, of 10^6 bytes; 0 for no limit.
MEMORY_LIMIT = "MARSERVE_MEMORY_LIMIT_MB"
RESUME = "MARSERVE_RESUME"  # in a replacement's environment, as JSON: what the process before has left to it
CHECK_EVERY = 1.0  # seconds; a look costs as much as a small request
LEAST_AGE = 10.0  # seconds that a replacement lasts at least, so that one that grows at once does not only load

_RESUME_SCRIPT = Path(__file__).with_name("resume.py")
_ENDING = "The server is about to end: send the request again."

log = logging.getLogger(__name__)


class Memory:
    """Says when this process should be replaced."""

    def __init__(self, replaced: bool) -> None:
        self._next = time.monotonic() + (LEAST_AGE if replaced else 0)

    def too_large(self) -> int:
        """The resident megabytes, if they are over the limit; otherwise 0."""
        now = time.monotonic()
        if now < self._next:
            return 0
        self._next = now + CHECK_EVERY
        limit = int(os.environ.get(MEMORY_LIMIT, 0))
        resident = resident_mb() if limit else 0
        return resident if resident > limit else 0


def resident_mb() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 10**6


def install(protocol: ModuleType) -> None:
    """Come between the worker's loop and `ts.protocol.otf_message_handler`'s functions."""
    folder = os.environ.get(slots.FOLDER)
    slot = slots.Slot(Path(folder)) if folder else None
    copies = tap.Tap(os.environ.get(tap.FOLDER))
    inherited = json.loads(os.environ.get(RESUME, "{}"))
    memory = Memory(replaced=bool(inherited))
    original, original_response = protocol.retrieve_msg, protocol.create_predict_response
    load: dict[str, Any] = {}

    def retrieve_msg(connection: socket) -> tuple[bytes, Any]:
        if slot:
            slot.done()
        copies.answered()
        if inherited and not load:  # what the front end sent to the process that was before
            load.update(_encoded(inherited["load"]))
            copies.load(load)
            return protocol.LOAD_MSG, load
        if "turn" in inherited:  # it has loaded
            os.close(inherited.pop("turn"))
        resident = memory.too_large()
        if slot and resident and not wire.unread(connection):
            with suppress(BlockingIOError):  # not its turn: at the next look
                replace(connection, load, slot.turn(), resident)
        while True:
            command, message = original(connection)
            if command == protocol.LOAD_MSG:
                load.update(message)
                copies.load(load)
                return command, message
            if slot and slot.refusing:
                connection.sendall(protocol.create_predict_response(None, _ids(message), _ENDING, 503))
                continue
            if slot:
                slot.take(len(_ids(message)))
            if isinstance(message, wire.Batch):
                copies.taken(message)
            return command, message

    def create_predict_response(*arguments: Any, **options: Any) -> Any:
        reply = original_response(*arguments, **options)
        copies.replied(reply)
        return reply

    protocol.__dict__.update(retrieve_msg=retrieve_msg, create_predict_response=create_predict_response)


def replace(connection: socket, load: Mapping[str, Any], turn: int, resident: int) -> None:
    """Never returns: this process goes on as resume.py, with nothing but its id, the connection and the turn."""
    log.warning(
        "replaced: %d MB resident, the limit is %s MB (handler.memory_limit_mb)", resident, os.environ[MEMORY_LIMIT]
    )
    message = {key: value.decode() if isinstance(value, bytes) else value for key, value in load.items()}
    os.environ[RESUME] = json.dumps({"connection": connection.fileno(), "turn": turn, "load": message})
    connection.set_inheritable(True)
    os.set_inheritable(turn, True)
    atexit._run_exitfuncs()  # exec runs none: metrics are written, logs flushed
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, str(_RESUME_SCRIPT), *sys.argv])  # noqa: S606


def _encoded(load: Mapping[str, Any]) -> dict[str, Any]:
    """The message in the form in which TorchServe reads it: bytes for text."""
    return {key: value.encode() if isinstance(value, str) else value for key, value in load.items()}


def _ids(message: Any) -> Mapping[int, str]:
    """The requests' ids by index, of either form that a batch comes in."""
    if isinstance(message, wire.Batch):
        ids: Mapping[int, str] = message.ids
        return ids
    return {index: request["requestId"].decode() for index, request in enumerate(message)}
