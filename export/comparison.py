"""Two networks for the same images: accuracy on labelled ones, time of a run, size, and the gate of a quantised one."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from export.errors import ExportError
from handlers import image
from handlers.errors import RequestError
from handlers.network import Network
from training.folders import is_image

MAX_LOSS = 0.005  # of the accuracy
MIN_IMAGES = 200  # of which one is that much
_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class Scores:
    """Of both networks on the same labelled photographs; shares from 0 to 1."""

    images: int
    before: float  # accuracy
    after: float
    equal_labels: float


def labelled(folder: Path, labels: Sequence[str]) -> list[tuple[Path, int]]:
    """Photographs in `<label>/<class>/` or `<label>/`, sorted, each with the number of its label.

    Raises ExportError for a folder of another name, or fewer photographs than the gate needs.
    """
    if not folder.is_dir():
        raise ExportError(f"--unseen {folder} is not a folder; it holds photographs in <label>/ or <label>/<class>/")
    groups = sorted(place for place in folder.iterdir() if place.is_dir() and not place.name.startswith("."))
    if strangers := [group.name for group in groups if group.name not in labels]:
        raise ExportError(f"--unseen {folder} has a folder {strangers[0]}; the model knows {', '.join(labels)}")
    found = [(path, labels.index(group.name)) for group in groups for path in photographs_in(group)]
    if len(found) < MIN_IMAGES:
        raise ExportError(
            f"--unseen {folder} has {len(found)} photographs in <label>/ or <label>/<class>/; the gate needs "
            f"{MIN_IMAGES} to see a loss of {100 * MAX_LOSS:g} points"
        )
    return found


def photographs_in(folder: Path) -> list[Path]:
    """All photographs below `folder`, sorted; hidden files and folders are left out. Raises ExportError."""
    if not folder.is_dir():
        raise ExportError(f"{folder} is not a folder")
    inside = (path for path in folder.rglob("*") if is_image(path))
    return sorted(p for p in inside if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def load(path: Path, size: int, limits: image.Limits) -> NDArray[np.uint8]:
    """A photograph as a worker sees it, (size, size, 3). Raises ExportError."""
    try:
        return image.load(path.read_bytes(), size, limits)
    except (OSError, RequestError) as error:
        raise ExportError(f"{path}: {error}; take it out of the folder") from error


def score(before: Network, after: Network, photos: Sequence[tuple[Path, int]], limits: image.Limits) -> Scores:
    """Run both over labelled photographs, in the chunks that a worker runs."""
    right = np.zeros(2, int)
    equal = 0
    for chunk in _chunks(photos, before.spec.chunk):
        pixels = [load(path, before.spec.input_shape[0], limits) for path, _ in chunk]
        truth = np.array([label for _, label in chunk])
        answers = np.array([[row["probabilities"].argmax() for row in n.run(pixels)] for n in (before, after)])
        right += (answers == truth).sum(axis=1)
        equal += int((answers[0] == answers[1]).sum())
    count = len(photos)
    return Scores(count, int(right[0]) / count, int(right[1]) / count, equal / count)


def check_accuracy(scores: Scores, what: str) -> None:
    """Raises ExportError with both figures where more than MAX_LOSS is lost."""
    lost = round((scores.before - scores.after) * scores.images)  # images: whole numbers compare exactly
    if lost / scores.images > MAX_LOSS:
        raise ExportError(
            f"{what} loses {100 * lost / scores.images:.2f} points of accuracy on {scores.images:,} photographs: "
            f"{scores.before:.4f} before, {scores.after:.4f} after, {100 * scores.equal_labels:.1f} % of the labels "
            f"equal. At most {100 * MAX_LOSS:g} points may be lost: serve the float32 network"
        )


def medians(networks: Sequence[Network], batch: int, pixels: NDArray[np.uint8]) -> list[float]:
    """Milliseconds of one run of `batch` items, for each network. The runs take turns, so that what else the machine
    does slows all of them."""
    times: list[list[float]] = [[] for _ in networks]
    for _ in range(_ROUNDS):
        for network, own in zip(networks, times, strict=True):
            started = time.perf_counter()
            network.run([pixels] * batch)
            own.append(time.perf_counter() - started)
    return [1e3 * statistics.median(own) for own in times]


def cpu() -> str:
    """What the times were measured on, as Linux names it, and whether it has instructions for 8-bit products."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = fields.get("model name", platform.machine())
    return f"{name} {'with' if 'vnni' in fields.get('flags', '') else 'without'} VNNI"


def section(metadata: Mapping[str, Any]) -> str:
    """For the card, in Markdown; empty for an archive with a float32 network."""
    note = "What stands above of training, validation and parity is of the float32 network it was made from."
    if half := metadata.get("float16"):
        return (
            f"\n**Float16.** Weights and activations have 16 bits, for GPUs. {note} On {half['inputs']:,} images its "
            f"probabilities are within {half['max_difference']:.2g} of that network's, and "
            f"{100 * half['equal_labels']:.1f} % of the labels are equal. The ONNX file has "
            f"{half['onnx_bytes'] / 1e6:.2f} MB instead of {half['onnx_bytes_before'] / 1e6:.2f} MB.\n"
        )
    if "quantization" not in metadata:
        return ""
    record = metadata["quantization"]
    if record["method"] == "dynamic":
        note += " Ranges are found anew in every batch, so an answer depends a little on its neighbours there."
    return (
        f"\n**Quantised ({record['method']}).** Weights have 8 bits. {note}\n\n{table(record)}\n\n"
        f"Accuracy on {record['images']:,} unseen photographs, {100 * record['equal_labels']:.1f} % of their labels "
        f"equal; times are medians of interleaved runs on one thread ({record['cpu']}).\n"
    )


def table(record: Mapping[str, Any]) -> str:
    """Markdown: the network before and after, a row each."""
    batches = list(record["before"]["milliseconds"])
    heads = ["network", "ONNX", ".mar", "accuracy", *(f"ms at batch {batch}" for batch in batches)]
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for name, side in (("float32", record["before"]), (f"{record['method']} int8", record["after"])):
        sizes = [f"{side[key] / 1e6:.2f} MB" for key in ("onnx_bytes", "archive_bytes")]
        times = [f"{side['milliseconds'][batch]:.2f}" for batch in batches]
        lines.append(f"| {' | '.join([name, *sizes, format(side['accuracy'], '.4f'), *times])} |")
    return "\n".join(lines)


def _chunks(photos: Sequence[tuple[Path, int]], size: int) -> Iterator[Sequence[tuple[Path, int]]]:
    return (photos[start : start + size] for start in range(0, len(photos), size))
