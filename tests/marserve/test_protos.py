"""The committed stubs are what TorchServe's own protocol files compile to."""

from __future__ import annotations

from pathlib import Path

import pytest

from marserve.protos import generate
from tests.export.models import ROOT


def test_the_stubs_are_up_to_date(tmp_path: Path) -> None:
    generate.generate(tmp_path)
    made = {path.name: path.read_text() for path in (tmp_path / generate.PACKAGE).iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / generate.PACKAGE).glob("*_pb2*.py")}
    assert sorted(made) == [f"{name}_pb2{kind}.py" for name in generate.NAMES for kind in ("", "_grpc")]
    assert made == committed


def test_a_failing_compiler_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="protoc failed"):
        generate.generate(tmp_path / "nowhere")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="torchserve is not installed"):
        generate.generate(tmp_path)
