"""`python -m export --quantize` and `--fp16`: through their gates to an archive that answers, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from export.__main__ import main
from tests.e2e.archives import read_files
from tests.export.models import EXAMPLE, flat, load, unpack, write_tinted
from tests.export.test_main import refused


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinted(tmp_path_factory.mktemp("calibration") / "train", 60, seed=1)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tinted(tmp_path_factory.mktemp("unseen") / "test", 200, seed=2)


def metadata(archive: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_files(archive)["metadata.json"])
    return found


def answers(archive: Path, folder: Path) -> None:
    (reply,) = load(unpack(archive, folder))([{"body": EXAMPLE.read_bytes()}])
    assert reply.status == 200


@pytest.mark.parametrize("method", ["static", "dynamic"])
def test_archive_card_and_terminal_repeat_the_figures(
    method: str, efficient: Path, calibration: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--archive={efficient}", f"--output_dir={tmp_path}", f"--quantize={method}", f"--unseen={unseen}"]
    main(["captcha_image", *options, *([f"--calibration={calibration}"] if method == "static" else [])])
    archive = tmp_path / "captcha_image.mar"
    found = metadata(archive)
    record = found["quantization"]
    assert found["version"] == f"1.0-{method}"
    assert "evaluation" not in found  # it was of the float32 network
    assert record["calibration_images"] == (60 if method == "static" else 0)
    assert record["images"] == 200
    assert record["before"]["accuracy"] - record["after"]["accuracy"] <= 0.005
    files = read_files(archive)
    assert record["after"]["onnx_bytes"] == len(files["model.onnx"])
    assert record["before"]["onnx_bytes"] == len(read_files(efficient)["model.onnx"])
    # Measured without the self-test, whose files come last, and rounded.
    assert abs(record["after"]["archive_bytes"] - archive.stat().st_size) < 20_000
    assert set(record["after"]["milliseconds"]) == {"1", "4"}
    card, printed = files["model_card.md"].decode(), capsys.readouterr().out
    row = f"| {method} int8 | {len(files['model.onnx']) / 1e6:.2f} MB |"
    assert row in card
    assert row in printed
    assert f"captcha_image 1.0-{method}" in card
    answers(archive, tmp_path / "unpacked")


def test_what_was_quantised_is_packed_again_with_its_records_but_not_quantised_again(
    efficient: Path, calibration: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quantised, again = tmp_path / "captcha_image.mar", tmp_path / "again"
    options = ["--quantize=static", f"--unseen={unseen}", f"--calibration={calibration}"]
    main(["captcha_image", f"--archive={efficient}", f"--output_dir={tmp_path}", *options])
    main(["captcha_image", f"--archive={quantised}", f"--output_dir={again}"])
    assert (again / "captcha_image.mar").read_bytes() == quantised.read_bytes()
    for flags in (options, ["--fp16"]):
        message = refused(capsys, "captcha_image", f"--archive={quantised}", f"--output_dir={tmp_path}/no", *flags)
        assert "start from that one" in message
    assert not (tmp_path / "no").exists()


def test_a_network_that_lost_its_accuracy_makes_no_archive(
    efficient: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Calibrated on one grey, its ranges hold no colour."""
    grey = tmp_path / "grey"
    grey.mkdir()
    Image.fromarray(flat(128, 128, 128)).save(grey / "grey.png")
    options = [f"--archive={efficient}", f"--output_dir={tmp_path}/out", f"--unseen={unseen}"]
    message = refused(capsys, "captcha_image", *options, "--quantize=static", f"--calibration={grey}")
    assert "static quantisation loses" in message
    assert "points of accuracy on 200 photographs" in message
    assert "before, 0." in message
    assert "At most 0.5 points may be lost" in message
    assert not (tmp_path / "out").exists()


def test_float16(efficient: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nested").mkdir()
    for name in ("animal", "object"):
        (tmp_path / "nested" / name).mkdir()
        (tmp_path / "nested" / name / "any").symlink_to(unseen / name)
    main(
        [
            "captcha_image",
            f"--archive={efficient}",
            f"--output_dir={tmp_path}",
            "--fp16",
            f"--data_dir={tmp_path}/nested",
        ]
    )
    archive = tmp_path / "captcha_image.mar"
    record = metadata(archive)["float16"]
    assert record["inputs"] == 70
    assert record["max_difference"] <= record["tolerance"]
    assert record["onnx_bytes"] == len(read_files(archive)["model.onnx"])
    assert "**Float16.**" in archive.with_suffix(".md").read_text()
    assert "parity with float32: max difference" in capsys.readouterr().out
    answers(archive, tmp_path / "unpacked")


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("drag_pattern", "a forest"),
        ("ticket_slice", "a forest"),
        ("captcha_challenge", "a pool of images"),
        ("image_embedding", "cut out of a float32 network"),
    ],
)
@pytest.mark.parametrize("options", [["--fp16"], ["--quantize=dynamic", "--unseen=."]])
def test_other_models_are_refused(
    name: str, what: str, options: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    message = refused(capsys, name, *options, f"--output_dir={tmp_path}/out")
    assert f"{name} is {what}" in message
    assert "are for image classifiers" in message


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--quantize=static", "--unseen=x"], "--quantize static needs --calibration DIR"),
        (["--quantize=dynamic", "--unseen=x", "--calibration=x"], "--calibration is for --quantize static alone"),
        (["--calibration=x"], "--calibration is for --quantize static alone"),
        (["--quantize=dynamic"], "--quantize needs --unseen DIR"),
        (["--unseen=x"], "--unseen is for --quantize"),
        (["--quantize=dynamic", "--unseen=x", "--fp16"], "choose one"),
        (["--quantize=int4", "--unseen=x"], "invalid choice: 'int4'"),
        (["--archive=x", "--data_dir=x"], "--archive goes without"),
    ],
)
def test_flags_that_do_not_go_together(options: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["captcha_image", *options])
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_folders_that_do_not_do(
    efficient: Path, calibration: Path, unseen: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    options = ["captcha_image", f"--archive={efficient}", f"--output_dir={tmp_path}/out", "--quantize=static"]
    for calibrating, judging, complaint in (
        (tmp_path / "empty", unseen, "empty holds no photographs"),
        (tmp_path / "nowhere", unseen, "nowhere is not a folder"),
        (unseen / "animal", unseen, "is in --calibration and in --unseen"),
        (calibration, tmp_path / "nowhere", "nowhere is not a folder"),
        (calibration, calibration, "has 60 photographs"),
    ):
        assert complaint in refused(capsys, *options, f"--calibration={calibrating}", f"--unseen={judging}")
    assert "nowhere" in refused(capsys, *options[:3], "--fp16", f"--data_dir={tmp_path}/nowhere")
    assert not (tmp_path / "out").exists()
