"""A checkpoint of `training/train_image.py` -> the files, labels and records of its archive."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import nn

from export.errors import ExportError
from export.onnx_file import ServedClassifier, write_onnx
from export.parity import check_parity
from handlers import image
from handlers.errors import InvalidContentError, RequestError
from handlers.loaders import LOADERS, Loader
from handlers.tasks.ensemble_classification import OUTPUTS
from training import architectures
from training.captcha_dataset import scan
from training.cli import DataError
from training.ensemble import Ensemble
from training.network import ImageClassifier, class_groups
from training.recipe import Preprocessing

PARITY_IMAGES = 70
ENSEMBLE = "ensemble_classification"  # the task


class _Preprocessing(BaseModel):
    model_config = ConfigDict(strict=True)

    input_size: int = Field(ge=1)


def _known_architecture(name: str) -> str:
    try:
        architectures.check(name)
    except DataError as error:
        raise ValueError(str(error).removeprefix("--")) from None
    return name


class _Recipe(BaseModel):
    """What of the recipe makes a network another one; earlier trainings had no choice."""

    architecture: Annotated[str, AfterValidator(_known_architecture)] = "efficientnet_b0"
    head: tuple[Annotated[int, Field(ge=1)], ...] = ()
    preprocessing: Preprocessing = "crop"


class _Network(BaseModel):
    """A network of an ensemble."""

    folder: str


class _Meta(BaseModel):
    """What an export needs of meta.json; the rest travels as it is."""

    model_config = ConfigDict(strict=True)

    classes: list[str] = Field(min_length=2)
    members: dict[str, Annotated[list[str], Field(min_length=1)]]
    recipe: _Recipe = _Recipe()
    networks: list[_Network] = []
    preprocessing: _Preprocessing
    data: dict[str, Any]
    trained_at: Annotated[str, AfterValidator(lambda text: datetime.fromisoformat(text) and text)]


def read_meta(checkpoint: Path) -> dict[str, Any]:
    """The meta.json beside a checkpoint. Raises ExportError."""
    path = checkpoint.with_name("meta.json")
    if not checkpoint.is_file():
        raise ExportError(f"{checkpoint} does not exist; train one with training/train_image.py")
    try:
        text = path.read_bytes()
        needed = _Meta.model_validate_json(text)
    except FileNotFoundError:
        raise ExportError(f"{path} is missing: it states the classes and the preprocessing of {checkpoint}") from None
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from None
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors())
        raise ExportError(f"{path} is not the meta.json of a training: {wrong}") from None
    if list(needed.members) != needed.classes:
        raise ExportError(f"{path}: 'classes' and 'members' must name the same groups in the same order")
    meta: dict[str, Any] = json.loads(text)
    return meta


def load_network(
    checkpoint: Path,
    members: Mapping[str, Sequence[str]],
    architecture: str = "efficientnet_b0",
    head: Sequence[int] = (),
    bags: int = 0,
) -> ServedClassifier:
    """The trained network as it is served, or the ensemble of `bags`; `members` has every group's classes.

    Raises ExportError.
    """
    of_class = class_groups(members)
    model: nn.Module = ImageClassifier(of_class, architecture, head)
    if bags:
        model = Ensemble(of_class, architecture, head, bags)
    try:
        with warnings.catch_warnings(action="ignore"):
            weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # on damaged bytes torch raises whatever its parsing runs into
        raise ExportError(f"{checkpoint} is damaged, or no file of weights ({type(error).__name__})") from None
    try:
        model.load_state_dict(weights)
    except (RuntimeError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        classes = sum(map(len, members.values()))
        what = f"{architectures.describe(architecture, head)}, with {classes} classes"
        raise ExportError(f"{checkpoint} holds no weights for {what}: {reason[:300]}") from None
    return ServedClassifier(model).eval()


def export_classifier(
    checkpoint: Path, handler: dict[str, Any], data_dir: Path | None, example: Path, target: Path
) -> dict[str, Any]:
    """Write the ONNX file, hold it against PyTorch, complete the spec's handler section, and return the records.

    Raises ExportError.
    """
    meta = read_meta(checkpoint)
    size = meta["preprocessing"]["input_size"]
    recipe = _Recipe.model_validate(meta.get("recipe", {}))
    bags = len(meta.get("networks", []))
    if handler["task"] == ENSEMBLE and not bags:
        raise ExportError(f"{checkpoint} is one network, no ensemble: train that with --bags 3")
    model = load_network(checkpoint, meta["members"], recipe.architecture, recipe.head, bags)
    write_onnx(model, (size, size, 3), target, OUTPUTS if bags else OUTPUTS[:1])
    load = LOADERS[recipe.preprocessing]
    inputs = photographs(data_dir, size, load) if data_dir else crops(example, size, load)
    parity = check_parity(model, target, inputs)
    handler["labels"] = meta["classes"]
    handler["preprocessing"] = recipe.preprocessing
    handler["network"]["input_shape"] = [size, size, 3]
    return {key: value for key, value in meta.items() if key != "history"} | {"parity": asdict(parity)}


def photographs(data_dir: Path, size: int, load: Loader = image.load) -> list[tuple[str, NDArray[np.uint8]]]:
    """Up to 70 photographs, evenly over a two-level folder: name and pixels (size, size, 3)."""
    try:
        photos = scan(data_dir)
    except DataError as error:
        raise ExportError(str(error)) from error
    chosen = [photos[i] for i in np.linspace(0, len(photos) - 1, min(PARITY_IMAGES, len(photos))).astype(int)]
    loaded = []
    for photo in chosen:
        try:
            loaded.append((str(photo.path), load(photo.path.read_bytes(), size, image.Limits())))
        except RequestError as error:
            raise ExportError(f"{photo.path}: {error}") from error
    return loaded


def crops(example: Path, size: int, load: Loader = image.load) -> list[tuple[str, NDArray[np.uint8]]]:
    """Without a data folder: 70 different crops of the spec's own example photograph, (size, size, 3) each.

    Where `load` looks for ink, those without any are left out.
    """
    result = []
    for name, pixels in cuts(example):
        encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
        with suppress(InvalidContentError):
            result.append((name, load(encoded, size, image.Limits())))
    if not result:
        raise ExportError(f"{example} shows too little for the parity gate: give --data_dir")
    return result


def cuts(example: Path) -> list[tuple[str, NDArray[np.uint8]]]:
    """The same crops as they lie in the photograph, (side, side, 3) each, with a side of their own."""
    whole = image.decode(example.read_bytes())  # (H, W, 3)
    random = np.random.default_rng(0)
    result = []
    for index in range(PARITY_IMAGES):
        side = int(min(whole.shape[:2]) * random.uniform(0.3, 1))
        top, left = (int(random.integers(0, extent - side + 1)) for extent in whole.shape[:2])
        result.append((f"{example.name} crop {index}", whole[top : top + side, left : left + side]))
    return result
