"""Digests of an unpacked archive."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from handlers.archive import DIGESTS, check_digests, file_digest
from handlers.errors import SpecError
from tests.handlers.networks import write_digests


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "handlers").mkdir()
    for name, content in (("model.onnx", b"network"), ("handlers/image.py", b"code"), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
    write_digests(tmp_path)
    return tmp_path


def test_a_digest_is_the_sha_256_of_the_content(folder: Path) -> None:
    assert file_digest(folder / "model.onnx") == hashlib.sha256(b"network").hexdigest()


def test_what_was_packed_passes(folder: Path) -> None:
    check_digests(folder)
    (folder / "MANIFEST.json").write_text("TorchServe adds files of its own")
    check_digests(folder)


@pytest.mark.parametrize("name", ["model.onnx", "handlers/image.py", "empty"])
def test_a_changed_or_missing_file_is_named(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content + b"!")
    with pytest.raises(SpecError, match=rf"{name} is not the file that was packed"):
        check_digests(folder)
    (folder / name).unlink()
    with pytest.raises(SpecError, match=rf"lacks {name}"):
        check_digests(folder)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[]", b'"text"', b"null"])
def test_a_wrong_list(folder: Path, content: bytes | None) -> None:
    (folder / DIGESTS).unlink()
    if content is not None:
        (folder / DIGESTS).write_bytes(content)
    with pytest.raises(SpecError, match=DIGESTS):
        check_digests(folder)


@pytest.mark.parametrize("digest", ["null", "5", '""', '"ABC"'])
def test_a_wrong_digest(folder: Path, digest: str) -> None:
    (folder / DIGESTS).write_text(f'{{"model.onnx": {digest}}}')
    with pytest.raises(SpecError, match="not the file that was packed"):
        check_digests(folder)
