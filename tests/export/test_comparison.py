"""The accuracy gate, the labelled folder it takes, and the table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from export.comparison import MIN_IMAGES, Scores, check_accuracy, cpu, labelled, load, section, table
from export.errors import ExportError
from handlers.image import Limits
from tests.export.models import write_tinted

SIDE: dict[str, Any] = {
    "accuracy": 0.91234,
    "onnx_bytes": 16_543_836,
    "archive_bytes": 15_340_000,
    "milliseconds": {"1": 4.751, "4": 21.909},
}
RECORD: dict[str, Any] = {
    "method": "static",
    "images": 4500,
    "equal_labels": 0.987,
    "cpu": "A processor without VNNI",
    "before": SIDE,
    "after": SIDE | {"onnx_bytes": 6_920_000, "accuracy": 0.9},
}


def test_half_a_point_may_be_lost() -> None:
    check_accuracy(Scores(1000, 0.855, 0.85, 0.99), "static quantisation")
    check_accuracy(Scores(1000, 0.855, 0.9, 0.99), "static quantisation")
    with pytest.raises(ExportError, match=r"loses 0.60 points .* 0.8550 before, 0.8490 after, 99.0 % of the labels"):
        check_accuracy(Scores(1000, 0.855, 0.849, 0.99), "static quantisation")


def test_both_layouts_are_read(tmp_path: Path) -> None:
    folder = write_tinted(tmp_path / "unseen", MIN_IMAGES)
    (folder / "animal" / "cat").mkdir()
    first = min((folder / "animal").glob("*.png"))
    first.rename(folder / "animal" / "cat" / first.name)
    (folder / "animal" / ".hidden").mkdir()
    (folder / "animal" / ".hidden" / "x.png").write_bytes(b"-")
    photos = labelled(folder, ["animal", "object"])
    assert len(photos) == MIN_IMAGES
    assert all(path.relative_to(folder).parts[0] == ["animal", "object"][label] for path, label in photos)


def test_what_cannot_judge(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="is not a folder"):
        labelled(tmp_path / "nowhere", ["animal", "object"])
    folder = write_tinted(tmp_path / "unseen", MIN_IMAGES - 1)
    with pytest.raises(ExportError, match=r"has 199 photographs in .* the gate needs 200"):
        labelled(folder, ["animal", "object"])
    with pytest.raises(ExportError, match="has a folder animal; the model knows cat, object"):
        labelled(folder, ["cat", "object"])
    broken = folder / "animal" / "broken.png"
    broken.write_bytes(b"no image")
    with pytest.raises(ExportError, match=r"broken\.png: .*take it out of the folder"):
        load(broken, 8, Limits())


def test_the_table_and_the_cards_section() -> None:
    assert table(RECORD).splitlines()[2:] == [
        "| float32 | 16.54 MB | 15.34 MB | 0.9123 | 4.75 | 21.91 |",
        "| static int8 | 6.92 MB | 15.34 MB | 0.9000 | 4.75 | 21.91 |",
    ]
    text = section({"quantization": RECORD})
    assert table(RECORD) in text
    assert "4,500 unseen photographs, 98.7 % of their labels" in text
    assert "A processor without VNNI" in text
    assert "neighbours" not in text
    assert "neighbours" in section({"quantization": RECORD | {"method": "dynamic"}})
    assert section({}) == ""


def test_the_processor_is_named() -> None:
    assert cpu().endswith((" with VNNI", " without VNNI"))
    assert len(cpu()) > len(" without VNNI")
