"""Model cards: `specs/NAME.md` with its figures filled in from the training's and the export's own records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

from export.comparison import section
from export.errors import ExportError
from export.evaluation import table

_WIDTH = 100  # of a line of the command


def fill_card(template: Path, metadata: Mapping[str, Any]) -> str:
    """Replace every `$key_subkey` by metadata["key"]["subkey"], so that a card cannot state another model's figures.

    What became of a network that is not float32 any more follows at the end.

    Raises ExportError for a placeholder that the metadata does not have.
    """
    values = _flatten(metadata) | {"evaluation_table": table(metadata)}
    if "recipe" in metadata:
        values["command"] = _command(metadata)
    try:
        return Template(template.read_text()).substitute(values) + section(metadata)
    except KeyError as error:
        raise ExportError(
            f"{template}: nothing known as ${error.args[0]}; known: {', '.join(sorted(values))}"
        ) from None
    except ValueError as error:
        raise ExportError(f"{template}: {error}") from None


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, entry in value.items():
        if isinstance(entry, Mapping):
            flat |= _flatten(entry, f"{prefix}{key}_")
            flat[prefix + key] = ", ".join(f"{k} {v:,}" if type(v) is int else f"{k} {v}" for k, v in entry.items())
        elif isinstance(entry, bool | str | int):
            flat[prefix + key] = f"{entry:,}" if type(entry) is int else str(entry)
        elif isinstance(entry, float):
            flat[prefix + key] = f"{entry:.4g}"
        elif isinstance(entry, list | tuple):
            flat[prefix + key] = ", ".join(map(str, entry))
    return flat


def _command(metadata: Mapping[str, Any], output_dir: str = "models") -> str:
    """The training again, and before it the one whose weights it started from; a recipe's fields are the options."""
    machine = metadata.get("machine", {})
    processes = machine.get("processes", 1)
    python = "python" if processes == 1 else f"torchrun --standalone --nproc-per-node {processes}"
    script = metadata.get("script")
    table = script == "training/train_table.py"
    data = "--data table.csv" if table else f"--data_dir {'data/mouse' if script else 'data/train'}"
    options = [f"--output_dir {output_dir}"]
    for name, value in metadata["recipe"].items():
        options.append(" ".join(map(str, [f"--{name}", *(value if isinstance(value, list) else [value])])))
    if "workers" in machine:
        options.append(f"--workers {machine['workers']}")
    options += [f"--{name}" for name in ("compile", "bfloat16") if machine.get(name)]
    earlier = metadata.get("earlier")
    if earlier or metadata.get("pretrained"):
        options.append(f"--weights {output_dir}_before/best_model.pth" if earlier else "--weights FILE")
    lines = [f"{python} {script or 'training/train_image.py'} {data}"]
    for option in options:
        if len(lines[-1]) + len(option) > _WIDTH:
            lines.append("   ")
        lines[-1] += f" {option}"
    command = " \\\n    ".join(lines)
    return f"{_command(earlier, f'{output_dir}_before')}\n    {command}" if earlier else command
