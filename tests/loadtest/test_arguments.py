"""What `python -m loadtest` refuses before it starts anything: exit code 2 and one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.__main__ import main
from loadtest.errors import LoadTestError
from loadtest.plan import Plan, Target, build_targets, read_plan
from loadtest.shapes import load_shape
from tests.loadtest.replies import CLASSIFIED, encoded
from tests.loadtest.standin import rest_server, write_archive


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: MODEL"),
        (["m", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["m", "--shape", "nope"], "unknown shape 'nope'"),
        (["m", "--shape", "spike", "--duration", "2"], "3 or more"),
        (["m", "--users", "0"], "from 1 to"),
        (["m", "--users", "2.5"], "from 1 to"),
        (["m", "--users", "²"], "from 1 to"),
        (["m", "--duration", "nan"], "seconds from 1"),
        (["m", "--duration", "1e9"], "seconds from 1"),
        (["m", "--max-p99", "-1"], "milliseconds of at least 0"),
        (["m", "--max-p99", "inf"], "milliseconds of at least 0"),
        (["m", "--max-error-rate", "1.1"], "from 0 to 1"),
        (["m", "--host", "127.0.0.1:8080"], "expected an address"),
        (["m", "--host", "http://[::1"], "expected an address"),
        (["m", "--host", "http://127.0.0.1:99999"], "expected an address"),
        (["m", "--grpc", "http://127.0.0.1:7070"], "expected an address"),
        (["m", "--grpc", "127.0.0.1:0"], "expected an address"),
        (["m", "--check", "nonsense"], "invalid choice"),
        (["m"], "m.mar does not exist"),
        (["../m"], "is not a model's name"),
        (["m", "m"], "named twice"),
        (["m", "n", "--files", __file__], "goes with one model"),
        (["m", "--files", "/nope"], "cannot read /nope"),
        (["m", "--files", "/dev/null"], "is empty"),
        (["m", "--archive", "/nope.mar"], "does not exist"),
        (["m", "--archive", __file__], "not a readable archive"),
        (["m", "--files", __file__, "--host", "http://127.0.0.1:9"], "no answer from http://127.0.0.1:9"),
        (["m", "--files", __file__, "--grpc", "127.0.0.1:9"], "no answer from 127.0.0.1:9"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_that_the_server_lacks_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = encoded({"code": 404, "type": "ModelNotFoundException", "message": "Model not found: m"})
    with rest_server(lambda _: (404, missing)) as url:
        assert main(["m", "--files", __file__, "--host", url, "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: the server has no model m (REST at {url})\n"


def test_a_folder_that_cannot_be_written_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with rest_server(lambda _: (200, encoded(CLASSIFIED))) as url:
        assert main(["m", "--files", __file__, "--host", url, "--output", "/dev/null/out"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write into /dev/null/out")


def test_examples_come_from_archives(tmp_path: Path) -> None:
    write_archive(tmp_path, "photos", "image_classification", {"file": "photo"}, photo=b"pixels")
    (tmp_path / "elsewhere").mkdir()
    other = write_archive(tmp_path / "elsewhere", "words", "translation", {"json": {"text": "é"}})
    assert build_targets(["photos", "words"], [other], tmp_path, [], None) == (
        Target("photos", "image_classification", (b"pixels",)),
        Target("words", "any", (b'{"text": "\\u00e9"}',)),
    )


def test_files_go_instead_of_the_example(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text(file.name)
    assert build_targets(["m"], [], tmp_path, files, None) == (Target("m", "any", (b"a", b"b")),)
    write_archive(tmp_path, "m", "random_images", {})
    assert build_targets(["m"], [], tmp_path, files, None)[0].kind == "random_images"
    assert build_targets(["m"], [], tmp_path, files, "any")[0].kind == "any"


@pytest.mark.parametrize("example", [{}, {"file": "missing"}])
def test_an_archive_without_an_example_is_told(tmp_path: Path, example: dict[str, str]) -> None:
    write_archive(tmp_path, "m", "image_classification", example)
    with pytest.raises(LoadTestError, match="carries no example"):
        build_targets(["m"], [], tmp_path, [], None)


def test_an_archive_of_another_model_is_told(tmp_path: Path) -> None:
    path = write_archive(tmp_path, "m", "any", {"json": {}})
    with pytest.raises(LoadTestError, match="an archive of m is given"):
        build_targets(["n"], [path], tmp_path, [], None)
    with pytest.raises(LoadTestError, match="holds m, not n"):
        build_targets(["n"], [], path.rename(tmp_path / "n.mar").parent, [], None)


def test_a_plan_comes_back_from_its_file(tmp_path: Path) -> None:
    plan = Plan("http://h", "", tuple(load_shape("ramp")), (Target("m", "any", (b"\xff\x00", b"{}")),))
    plan.write(tmp_path / "plan.json")
    assert read_plan(tmp_path / "plan.json") == plan
