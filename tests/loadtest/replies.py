"""Replies as the models give them."""

from __future__ import annotations

import base64
import json
from typing import Any

JPEG = b"\xff\xd8\xff\xe0 pixels \xff\xd9"
CLASSIFIED = {"label": "animal", "confidence": 0.75, "probabilities": {"animal": 0.75, "object": 0.25}}


def challenge(*groups: str, data: bytes = JPEG) -> dict[str, Any]:
    text = base64.b64encode(data).decode()
    return {"kind": "drag_drop", "images": [{"id": str(n), "data": text, "group": g} for n, g in enumerate(groups)]}


def encoded(body: object) -> bytes:
    return json.dumps(body).encode()
