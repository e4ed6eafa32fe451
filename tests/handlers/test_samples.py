"""Files of samples: read whole, or refused with the reason."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handlers import image
from handlers.errors import SpecError
from handlers.samples import NOISE, Sample, read_samples
from tests.handlers.drawings import seven
from tests.images import encode

PNG = encode(seven(28, (9, 4), 18, (255, 255, 255), (0, 0, 0)), "PNG")
ENTRY = {"label": "7", "data": base64.b64encode(PNG).decode()}


def write(path: Path, *entries: Any) -> Path:
    path.write_text(json.dumps({"attribution": "drawn here", "samples": entries}))
    return path


def test_images_and_labels_come_in_order(tmp_path: Path) -> None:
    path = write(tmp_path / "samples.json", ENTRY, ENTRY | {"label": "1"})
    assert read_samples(path, ("1", "7")) == [Sample(PNG, "7"), Sample(PNG, "1")]


def test_noise_is_new_each_time_and_as_strong_as_it_says() -> None:
    sample = Sample(encode(np.full((60, 60, 3), 128, np.uint8), "PNG"), "7")
    first, second = sample.with_noise(), sample.with_noise()
    assert first != second
    assert image.decode(first).astype(float).std() == pytest.approx(NOISE, rel=0.1)
    assert sample.data == encode(np.full((60, 60, 3), 128, np.uint8), "PNG")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "is empty"),
        ([{"label": "7"}], "is no file of samples"),
        ([ENTRY | {"data": "?"}], "is no file of samples"),
        ([ENTRY | {"data": "AAAA"}], "is no file of samples"),
        ([ENTRY | {"label": "8"}], "the label '8', which is not in handler.labels"),
        ([ENTRY | {"label": 7}], "the label 7, which is not in handler.labels"),
        (["7"], "is no file of samples"),
    ],
)
def test_what_is_no_file_of_samples(tmp_path: Path, entries: list[Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read_samples(write(tmp_path / "samples.json", *entries), ("1", "7"))


@pytest.mark.parametrize("content", [b"", b"[]", b'{"samples": 5}', b"\xff"])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "samples.json").write_bytes(content)
    with pytest.raises(SpecError, match="is no file of samples"):
        read_samples(tmp_path / "samples.json", ("7",))
    with pytest.raises(SpecError, match=r"missing\.json is no file of samples"):
        read_samples(tmp_path / "missing.json", ("7",))
