"""`python -m export NAME --archive FILE`: newer handlers around the same network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from export.__main__ import main
from tests.e2e.archives import read_files, write_archive
from tests.export.models import write_pool
from tests.export.test_main import refused


@pytest.fixture(autouse=True)
def outside_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for the exports of conftest.py: the same source commit, whoever commits meanwhile."""
    monkeypatch.setenv("GIT_DIR", "/nonexistent")


def test_what_did_not_change_is_packed_to_the_same_bytes(exported: Path, tmp_path: Path) -> None:
    main(["captcha_image", f"--archive={exported}", f"--output_dir={tmp_path}"])
    assert (tmp_path / "captcha_image.mar").read_bytes() == exported.read_bytes()
    assert (tmp_path / "captcha_image.md").read_text() == exported.with_suffix(".md").read_text()


def test_old_handlers_are_replaced_and_the_rest_stays(exported: Path, tmp_path: Path) -> None:
    old = tmp_path / "captcha_image.mar"
    write_archive(old, read_files(exported) | {"handlers/errors.py": b"raise SystemExit", "selftest/old.jpg": b"old"})
    main(["captcha_image", f"--archive={old}", f"--output_dir={tmp_path}", "--version=9", "--data_note=Mine."])
    new = read_files(old)  # written over itself
    assert new["handlers/errors.py"] == read_files(exported)["handlers/errors.py"]
    assert new["model.onnx"] == read_files(exported)["model.onnx"]
    assert "selftest/old.jpg" not in new
    assert b"captcha_image 9" in new["model_card.md"]
    assert b"Mine." in new["model_card.md"]


def test_a_pool_is_carried_over(tmp_path: Path) -> None:
    main(["captcha_challenge", f"--pool={write_pool(tmp_path / 'pool')}", f"--output_dir={tmp_path}"])
    first = (tmp_path / "captcha_challenge.mar").read_bytes()
    main(["captcha_challenge", f"--archive={tmp_path / 'captcha_challenge.mar'}", f"--output_dir={tmp_path / 'again'}"])
    assert (tmp_path / "again" / "captcha_challenge.mar").read_bytes() == first


def test_damaged_and_foreign_archives_are_refused(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / "changed.mar"
    with zipfile.ZipFile(changed, "w") as archive:
        for name, content in read_files(exported).items():
            archive.writestr(name, content + b" " if name == "metadata.json" else content)
    output = f"--output_dir={tmp_path / 'out'}"
    assert "metadata.json is not the file that was packed" in refused(
        capsys, "captcha_image", f"--archive={changed}", output
    )
    changed.write_bytes(exported.read_bytes()[:-100])
    assert "cannot be packed again" in refused(capsys, "captcha_image", f"--archive={changed}", output)
    assert "another kind of model" in refused(capsys, "captcha_challenge", f"--archive={exported}", output)
    assert not (tmp_path / "out").exists()
