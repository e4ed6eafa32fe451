"""The default pool out of a package: a small one of the same layout stands in for OpenMoji's 30 MB."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.artwork import SIDE, group_of, main, render, write_pool
from handlers.pool import Pool

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72"><circle cx="36" cy="36" r="{}" fill="#e03020"/></svg>'
)
TABLE = """hexcode,group,subgroups,skintone
A1,animals-nature,animal-mammal,
A2,animals-nature,animal-bird,
P1,animals-nature,plant-other,
O1,objects,tool,
O2,objects,music,
O3,objects,music,1F3FB
F1,food-drink,food-fruit,
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    files = {"data/openmoji.csv": TABLE}
    files |= {f"color/svg/{name}.svg": SVG.format(10 + i) for i, name in enumerate(("A1", "A2", "O1", "O2"))}
    path = tmp_path / "openmoji.tgz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(text.encode())
            archive.addfile(entry, io.BytesIO(text.encode()))
    return path


def test_a_pool_of_the_two_groups(package: Path, tmp_path: Path) -> None:
    assert write_pool(package, tmp_path / "new" / "pool") == 4
    pool = Pool(tmp_path / "new" / "pool")
    assert pool.counts == {"animal": 2, "object": 2}
    assert "OpenMoji" in pool.attribution
    assert "CC BY-SA 4.0" in pool.attribution
    names = [path.stem for path in (tmp_path / "new" / "pool").glob("*.webp")]
    assert len(names) == 4
    assert not {"A1", "A2", "O1", "O2"} & set(names)


def test_drawings_keep_their_transparent_ground() -> None:
    pixels = cv2.imdecode(np.frombuffer(render(SVG.format(30).encode()), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.shape == (SIDE, SIDE, 4)
    assert pixels[0, 0, 3] == 0
    assert pixels[SIDE // 2, SIDE // 2, 3] == 255
    assert abs(pixels[SIDE // 2, SIDE // 2, :3].astype(int) - (0x20, 0x30, 0xE0)).max() < 12  # BGR, WebP loses a little


@pytest.mark.parametrize(
    ("group", "subgroups", "skintone", "expected"),
    [
        ("animals-nature", "animal-bug", "", "animal"),
        ("animals-nature", "plant-flower", "", None),
        ("objects", "tool", "", "object"),
        ("objects", "tool", "1F3FB", None),
        ("people-body", "person", "", None),
    ],
)
def test_groups(group: str, subgroups: str, skintone: str, expected: str | None) -> None:
    assert group_of({"group": group, "subgroups": subgroups, "skintone": skintone}) == expected


def test_only_the_published_package_is_taken(package: Path, tmp_path: Path) -> None:
    output = tmp_path / "pool"
    with pytest.raises(SystemExit, match=r"is not openmoji 17\.0\.0 as published"):
        main([str(package), f"--output={output}"])
    with pytest.raises(SystemExit, match="cannot read"):
        main([str(tmp_path / "nowhere.tgz"), f"--output={output}"])
    assert not output.exists()
    with pytest.raises(SystemExit, match="exists already"):
        main([str(package), f"--output={tmp_path}"])
