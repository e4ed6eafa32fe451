"""A folder of labelled images -> one file of samples."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from export.samples import main
from handlers.samples import read_samples
from tests.training.photos import write_photos


def test_as_many_of_every_label_and_the_seed_decides(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "images", per_class=4)
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        options = ["--attribution", "drawn here", "--per_label", "3", "--seed", str(seed)]
        main([str(folder), "--output", str(tmp_path / name), *options])
    samples = read_samples(tmp_path / "one", ("animal", "object"))
    assert Counter(sample.label for sample in samples) == {"animal": 3, "object": 3}
    originals = {path.read_bytes(): path.parts[-3] for path in folder.rglob("*.png")}
    assert all(originals[sample.data] == sample.label for sample in samples)
    assert json.loads((tmp_path / "one").read_bytes())["attribution"] == "drawn here"
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert (tmp_path / "one").read_bytes() != (tmp_path / "other").read_bytes()


def test_too_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_photos(tmp_path / "images", per_class=1)
    with pytest.raises(SystemExit) as ended:
        main([str(folder), "--output", str(tmp_path / "samples"), "--attribution", "-"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"error: {folder} has 2 PNG images of 'animal'; 10 are wanted\n"
    assert not (tmp_path / "samples").exists()
