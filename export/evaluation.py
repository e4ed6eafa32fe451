"""What `marserve evaluate --json` measured, as part of an archive's records and of its card."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.stats import binomtest

from export.errors import ExportError


class _Figures(BaseModel):
    """Of the file only what a card states."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _Evaluation(_Figures):
    model: str
    version: str
    unreadable: int = Field(ge=0)


class _Images(_Evaluation):
    images: int = Field(ge=1)
    accuracy: float = Field(ge=0, le=1)
    macro_f1: float = Field(ge=0, le=1)
    weighted_f1: float = Field(ge=0, le=1)
    log_loss: float = Field(ge=0)
    calibration_error: float = Field(ge=0, le=1)


Share = Annotated[float, Field(ge=0, le=1)]


class _Family(_Figures):
    movements: int = Field(ge=1)
    recall: Share
    recall_at_2_percent: Share
    auc: Share


class _Movements(_Evaluation):
    human_movements: int = Field(ge=1)
    bot_movements: int = Field(ge=1)
    auc: Share
    eer: Share
    false_positives: Share
    recall: Share
    recall_at_2_percent: Share
    families: dict[str, _Family]


class _Nearest(_Figures):
    precision_at_1: Share
    precision_at_5: Share
    chance: Share


class _Retrieval(_Nearest, _Evaluation):
    images: int = Field(ge=1)
    classes: int = Field(ge=2)
    groups: _Nearest | None


class _Faces(_Evaluation):
    images: int = Field(ge=1)
    overlap: Share
    faces: int = Field(ge=0)
    found: int = Field(ge=0)
    false_alarms: int = Field(ge=0)
    images_with_false_alarms: int = Field(ge=0)


def read_evaluation(file: Path, name: str, version: str) -> dict[str, Any]:
    """The figures in `file`, which must be of this model in this version. Raises ExportError."""
    try:
        text = file.read_bytes()
        kind: type[_Evaluation] = _Images
        if b'"human_movements"' in text:
            kind = _Movements
        elif b'"precision_at_1"' in text:
            kind = _Retrieval
        elif b'"false_alarms"' in text:
            kind = _Faces
        measured = kind.model_validate_json(text)
    except OSError as error:
        raise ExportError(f"--evaluation {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ExportError(f"{file} is not what `marserve evaluate {name} --json` prints: {wrong}") from None
    if (measured.model, measured.version) != (name, version):
        raise ExportError(f"{file} is of {measured.model} {measured.version}, not of {name} {version}")
    return measured.model_dump(exclude={"model", "version"})


def table(metadata: Mapping[str, Any]) -> str:
    """Markdown: a row for every folder of images that was measured, or for every family of bots."""
    evaluation: Mapping[str, Mapping[str, Any]] = metadata.get("evaluation", {})
    if not evaluation:
        return "Not measured yet on data set apart: see `marserve evaluate` and `--evaluation`."
    if all("families" in measured for measured in evaluation.values()):
        return "\n\n".join(_movements(f"`{part}`", m, metadata.get("metrics", {})) for part, m in evaluation.items())
    if all("precision_at_1" in measured for measured in evaluation.values()):
        return _retrieval(evaluation)
    if all("false_alarms" in measured for measured in evaluation.values()):
        return _faces(evaluation)
    heads = ["images in", "images", "accuracy (95 % interval)", "macro F1", "log loss", "calibration error"]
    rows = []
    for part, m in evaluation.items():
        accuracy = f"{m['accuracy']:.4f} ({_interval(m['accuracy'], m['images'])})"
        rows.append([f"`data/{part}`", m["images"], accuracy, m["macro_f1"], m["log_loss"], m["calibration_error"]])
    return _markdown(heads, rows)


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_shown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _interval(share: float, count: int, digits: int = 4) -> str:
    """Where the share lies of all that could have been asked, by Wilson's score interval."""
    low, high = binomtest(round(share * count), count).proportion_ci(method="wilson")
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _retrieval(evaluation: Mapping[str, Mapping[str, Any]]) -> str:
    """A row for every folder, and one for the folders above its classes."""
    heads, rows = ["photographs in", "images", "alike", "precision@1", "precision@5", "chance"], []
    for part, m in evaluation.items():
        for alike, scores in ((f"class, of {m['classes']:,}", m), ("group", m["groups"])):
            if scores:
                figures = [scores[key] for key in ("precision_at_1", "precision_at_5", "chance")]
                rows.append([f"`data/{part}`", m["images"], alike, *figures])
    return _markdown(heads, rows)


def _faces(evaluation: Mapping[str, Mapping[str, Any]]) -> str:
    heads = ["images in", "images", "faces", "found", "recall (95 % interval)", "precision", "false alarms"]
    rows = []
    for part, m in evaluation.items():
        taken = m["found"] + m["false_alarms"]
        share = m["found"] / m["faces"] if m["faces"] else 0.0
        recall = f"{share:.2f} ({_interval(share, m['faces'], 2)})" if m["faces"] else ""
        precision = f"{m['found'] / taken:.2f}" if m["faces"] and taken else ""
        alarms = f"{m['false_alarms']:,}, in {m['images_with_false_alarms']:,} images"
        rows.append([f"`data/{part}`", m["images"], m["faces"], m["found"], recall, precision, alarms])
    return _markdown(heads, rows)


def _movements(part: str, measured: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """What the archive did, beside what the training found out with other forests and with the fixed rules."""
    left_out, rules = training.get("left_out", {}), training.get("rules")
    heads = [f"bots in {part}", "movements", "AUC", "caught", "caught with 2 % of people flagged"]
    heads += ["AUC, family never seen"] if left_out else []
    heads += ["caught by fixed rules"] if rules else []
    rows = [
        ["**all**", measured["bot_movements"], measured["auc"], measured["recall"], measured["recall_at_2_percent"]]
    ]
    rows[0] += [""] if left_out else []
    rows[0] += [rules["recall"]] if rules else []
    for name, m in measured["families"].items():
        row = [name, m["movements"], m["auc"], m["recall"], m["recall_at_2_percent"]]
        row += [left_out.get(name, {}).get("left_out_auc", "")] if left_out else []
        row += [rules["families"].get(name, {}).get("recall", "")] if rules else []
        rows.append(row)
    flagged = (
        f"Of {measured['human_movements']:,} movements of people {100 * measured['false_positives']:.1f} % are flagged"
    )
    flagged += f", by the fixed rules {100 * rules['false_positives']:.1f} %" if rules else ""
    devices = [f"{name} {100 * m['flagged']:.0f} %" for name, m in left_out.items() if "flagged" in m]
    unseen = (
        f" People on a device that the training never saw are flagged far more often: {', '.join(devices)}."
        if devices
        else ""
    )
    return f"{_markdown(heads, rows)}\n\n{flagged}; the equal error rate is {measured['eer']:.4f}.{unseen}"


def _shown(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
