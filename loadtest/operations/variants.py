"""Other versions of a released model, made from its archive: as good as it is, or with a fault."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

from handlers.archive import DIGESTS
from loadtest.bench.store import repack

MANIFEST = "MAR-INF/MANIFEST.json"
GOOD = ""
MARKED = """
    replies = _handle(self, rows, context)
    return [reply[:-1] + b',"version":"%s"}' % context.manifest["model"]["modelVersion"].encode() for reply in replies]
"""
ERRORS = """
    raise RuntimeError("this version raises errors")
"""
SLOW = """
    time.sleep(0.15)
    return _handle(self, rows, context)
"""
HANGS = """
    time.sleep(3600)
"""
# One answer in ten is another one; which, the request decides.
DISAGREES = """
    from zlib import crc32

    replies = _handle(self, rows, context)
    for number, row in enumerate(rows):
        if crc32(next(iter(row.values()))) % 10 == 0:
            replies[number] = json.dumps(json.loads(replies[number]) | {"label": "something else"}).encode()
    return replies
"""
_CHANGED = """

_handle = Handler.handle


def _changed(self, rows, context):
    if any(request.get_request_property(WARM_UP_HEADER) for request in context.request_processor):
        return _handle(self, rows, context)
    {body}


Handler.handle = _changed
"""


def make(released: Path, target: Path, version: str, body: str = GOOD) -> None:
    """Write `target`, an archive of that version; `body` replaces what its handler does with a batch.

    Not while it is warmed up: these faults are such that only clients' requests show them.
    """
    repack(released, target)
    with zipfile.ZipFile(target) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name != DIGESTS}
    manifest = json.loads(files[MANIFEST])
    manifest["model"]["modelVersion"] = version
    files[MANIFEST] = json.dumps(manifest).encode()
    if body:
        files["entry.py"] += _CHANGED.format(body=body.strip()).encode()
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**files, DIGESTS: json.dumps(digests).encode()}.items():
            archive.writestr(name, content)
