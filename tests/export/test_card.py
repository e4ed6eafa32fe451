"""A model card states what the metadata says, or is not written."""

from __future__ import annotations

from pathlib import Path

import pytest

from export.card import fill_card
from export.errors import ExportError

METADATA = {
    "version": "1.0",
    "data": {"images": 12345, "per_group": {"animal": 6000, "object": 6345}},
    "metrics": {"val_accuracy": 0.987654, "tiny": 0.0000123},
    "classes": ["animal", "object"],
    "exact": True,
    "nothing": None,
}


def filled(folder: Path, text: str) -> str:
    (folder / "card.md").write_text(text)
    return fill_card(folder / "card.md", METADATA)


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("v$version", "v1.0"),
        ("${data_images}x", "12,345x"),
        ("$data_per_group", "animal 6,000, object 6,345"),
        ("$data_per_group_animal", "6,000"),
        ("$metrics_val_accuracy $metrics_tiny", "0.9877 1.23e-05"),
        ("$classes", "animal, object"),
        ("$exact", "True"),
        ("5 $$", "5 $"),
    ],
)
def test_placeholders(tmp_path: Path, text: str, result: str) -> None:
    assert filled(tmp_path, text) == result


@pytest.mark.parametrize("name", ["accuracy", "data_videos", "nothing"])
def test_what_is_not_known_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportError, match=rf"nothing known as \${name}; known: .*metrics_val_accuracy"):
        filled(tmp_path, f"${name}")


def test_a_stray_dollar_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"card\.md: .*line 1"):
        filled(tmp_path, "costs 5 $ a month")


def test_values_are_not_templates(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("$note")
    assert fill_card(tmp_path / "card.md", {"note": "$secret $"}) == "$secret $"


def test_the_command_is_one_that_can_be_typed(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("$command")
    recipe = {"head": [], "input_size": [64, 96], "epochs": 3}
    command = fill_card(tmp_path / "card.md", {"recipe": recipe, "machine": {"workers": 1, "bfloat16": True}})
    wanted = "python training/train_image.py --data_dir data/train --output_dir models --head --input_size 64 96"
    assert " ".join(command.replace("\\\n", " ").split()) == f"{wanted} --epochs 3 --workers 1 --bfloat16"
