"""What `marserve evaluate --json` measured, as part of an archive's records and of its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from export.errors import ExportError


class _Measured(BaseModel):
    """The figures that a card states; the rest of the file (classes, confusion) stays outside."""

    model_config = ConfigDict(strict=True, extra="ignore")

    model: str
    version: str
    images: int = Field(ge=1)
    unreadable: int = Field(ge=0)
    accuracy: float = Field(ge=0, le=1)
    macro_f1: float = Field(ge=0, le=1)
    weighted_f1: float = Field(ge=0, le=1)
    log_loss: float = Field(ge=0)
    calibration_error: float = Field(ge=0, le=1)


def read_evaluation(file: Path, name: str, version: str) -> dict[str, Any]:
    """The figures in `file`, which must be of this model in this version. Raises ExportError."""
    try:
        measured = _Measured.model_validate_json(file.read_bytes())
    except OSError as error:
        raise ExportError(f"--evaluation {file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ExportError(f"{file} is not what `marserve evaluate {name} --json` prints: {wrong}") from None
    if (measured.model, measured.version) != (name, version):
        raise ExportError(f"{file} is of {measured.model} {measured.version}, not of {name} {version}")
    return measured.model_dump(exclude={"model", "version"})


def table(evaluation: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table with a row for every folder that was measured."""
    if not evaluation:
        return "Not measured yet on photographs set apart: see `marserve evaluate` and `--evaluation`."
    lines = ["| photographs in | images | accuracy | macro F1 | log loss | calibration error |", "| --- " * 6 + "|"]
    for part, m in evaluation.items():
        figures = (f"{m[key]:.4f}" for key in ("accuracy", "macro_f1", "log_loss", "calibration_error"))
        lines.append(f"| `data/{part}` | {m['images']:,} | {' | '.join(figures)} |")
    return "\n".join(lines)
