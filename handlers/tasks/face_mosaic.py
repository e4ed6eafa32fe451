"""One photograph -> the same with its faces hidden, and where they were. Runs no network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import cv2
import orjson

from handlers import image, payload
from handlers.accept import JPEG, JSON, PNG
from handlers.errors import InvalidContentError, NoFaceError, SpecError
from handlers.faces import Box, Finder, mosaic
from handlers.payload import Instance, refuse_unknown
from handlers.pool import Pool
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task

COUNT_HEADER, BOXES_HEADER = "X-Face-Count", "X-Face-Boxes"
MOST_IN_HEADER = 200  # boxes, the largest ones: proxies take headers of 4 to 8 KB
_FIELDS = ("b64", "data", "image")
_QUALITY = 90  # of a JPEG


class FaceMosaic(Task):
    """Takes an image file, or `{"data": "<base64>", "image": true}`; without an image the answer is the boxes alone."""

    media_types: ClassVar[tuple[str, ...]] = (JPEG, PNG, JSON)

    def __init__(self, finder: Finder, limits: image.Limits) -> None:
        self._finder = finder
        self._limits = limits

    def decode(self, instance: Instance) -> Item:
        """Its `extra` has the pixels, (H, W, 3) uint8 RGB, the boxes, and whether an image is wanted."""
        wanted = True
        if not isinstance(instance, bytes):
            refuse_unknown(instance.keys() - set(_FIELDS), _FIELDS)
            wanted = instance.get("image", True)
            if not isinstance(wanted, bool):
                raise InvalidContentError("'image' must be true or false")
        pixels = image.decode(instance if isinstance(instance, bytes) else payload.binary(instance), self._limits)
        boxes = self._finder.find(pixels)
        if not boxes:
            raise NoFaceError("no face was found in the picture")
        return Item(None, {"pixels": pixels, "boxes": boxes, "image": wanted})

    def encode(self, item: Item, row: Row) -> dict[str, Any]:  # noqa: ARG002
        answer: dict[str, Any] = {"faces": _lists(item.extra["boxes"])}
        if item.extra["image"]:
            answer |= {"media_type": JPEG, "image": base64.b64encode(_hidden(item, JPEG)).decode()}
        return answer

    def render(self, item: Item, row: Row, media_type: str) -> tuple[bytes, dict[str, str]]:  # noqa: ARG002
        if not item.extra["image"]:
            raise InvalidContentError(f"without an image the reply is JSON: send 'Accept: {JSON}' with it")
        boxes: list[Box] = item.extra["boxes"]
        headers = {COUNT_HEADER: str(len(boxes)), BOXES_HEADER: orjson.dumps(_lists(boxes[:MOST_IN_HEADER])).decode()}
        return _hidden(item, media_type), headers


def _lists(boxes: Sequence[Box]) -> list[list[int]]:
    return list(map(list, boxes))


def _hidden(item: Item, media_type: str) -> bytes:
    """The file: made of pixels alone, it has none of the metadata of the one that came."""
    bgr = cv2.cvtColor(mosaic(item.extra["pixels"], item.extra["boxes"]), cv2.COLOR_RGB2BGR)
    suffix, options = (".png", []) if media_type == PNG else (".jpg", [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return cv2.imencode(suffix, bgr, options)[1].tobytes()


def build(spec: HandlerSpec, pool: Pool | None) -> FaceMosaic:  # noqa: ARG001
    if spec.network is not None:
        raise SpecError(f"{spec.task} runs no network: remove handler.network")
    if not spec.cascade:
        raise SpecError(f"{spec.task} needs a handler.cascade: the file of OpenCV's in the archive that finds faces")
    image.use_one_thread()
    return FaceMosaic(Finder(Path(spec.cascade)), image.Limits(**asdict(spec.limits)))
