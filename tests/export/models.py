"""Small real inputs of exports: a network that knows red from blue, a checkpoint, a pool, an archive."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from export.image_classifier import crops
from export.onnx_file import write_onnx
from export.pack import pack
from export.spec import SPECS
from export.untrained import untrained
from handlers.archive import check_digests
from handlers.pipeline import Pipeline
from handlers.spec import read_spec
from tests.handlers.networks import write_embedding

ROOT = Path(__file__).parents[2]
EXAMPLE = SPECS / "captcha_image.jpg"
SIDE = 8  # of the small network's input, pixels
MEMBERS = {"animal": ["cat", "dog"], "object": ["cup", "key"]}
SCRIPT = """
import json, sys
from types import SimpleNamespace
import entry, handlers, yaml

folder, example = sys.argv[1:]
statuses = {}
context = SimpleNamespace(
    system_properties={"model_dir": folder},
    model_yaml_config=yaml.safe_load(open(f"{folder}/model-config.yaml")),
    request_processor=[
        SimpleNamespace(
            get_request_properties=dict,
            add_response_property=lambda name, value: None,
            report_status=lambda code, phrase: statuses.update({0: code}),
        )
    ],
)
handler = entry.Handler()
handler.initialize(context)
replies = handler.handle([{"body": open(example, "rb").read()}], context)
answer = {"reply": json.loads(replies[0]), "statuses": statuses}
print(json.dumps(answer | {"handlers": handlers.__file__, "torch": "torch" in sys.modules}))
"""


class RedOrBlue(nn.Module):
    """uint8 pixels (B, SIDE, SIDE, 3) -> probabilities (B, 2): how red, how blue."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        with torch.no_grad():
            self.linear.weight.copy_(torch.tensor([[0.1, 0, 0], [0, 0, 0.1]]))
            self.linear.bias.zero_()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        means = pixels.float().mean(dim=(1, 2))  # (B, 3)
        return torch.softmax(self.linear(means), dim=1)


class SmallEfficient(nn.Module):
    """RedOrBlue's task with EfficientNet's parts: a convolution, a depthwise one, squeeze-and-excitation, swish."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.depthwise = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.project, self.head = nn.Conv2d(16, 16, 1), nn.Linear(16, 2)
        with torch.no_grad():
            pixels = torch.from_numpy(np.stack([tinted(number, number % 2 == 0) for number in range(200)]))
            features = torch.cat([self.features(pixels), torch.ones(200, 1)], dim=1)  # (200, 17)
            logits = 3 * (1 - 2 * (torch.arange(200) % 2)[:, None]) * torch.tensor([1.0, -1.0])  # (200, 2)
            ridge = features.T @ features + 0.1 * torch.eye(17)  # no weights that cancel each other
            weights = torch.linalg.solve(ridge, features.T @ logits)  # (17, 2)
            self.head.weight.copy_(weights[:-1].T)
            self.head.bias.copy_(weights[-1])

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        silu = nn.functional.silu
        maps = silu(self.stem((pixels.permute(0, 3, 1, 2).float() - 128) / 64))  # (B, 16, SIDE / 2, SIDE / 2)
        maps = silu(self.depthwise(maps))
        gate = torch.sigmoid(self.excite(silu(self.squeeze(maps.mean((2, 3), keepdim=True)))))  # (B, 16, 1, 1)
        means: torch.Tensor = (maps + self.project(maps * gate)).mean((2, 3))  # (B, 16)
        return means

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.head(self.features(pixels)), dim=1)


def tinted(seed: int, red: bool) -> NDArray[np.uint8]:
    """Noise of all brightnesses with more red, or more blue, (SIDE, SIDE, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 156, (SIDE, SIDE, 3), np.uint8)
    pixels[..., 0 if red else 2] += 100
    return pixels


def flat(red: int, green: int, blue: int) -> NDArray[np.uint8]:
    """One image of a single colour, (SIDE, SIDE, 3)."""
    return np.full((SIDE, SIDE, 3), (red, green, blue), np.uint8)


def photographs(count: int) -> torch.Tensor:
    """Crops of the shipped example, (count, 32, 32, 3)."""
    return torch.from_numpy(np.stack([pixels for _, pixels in crops(EXAMPLE, 32)[:count]]))


def write_checkpoint(folder: Path) -> Path:
    """A random EfficientNet-B0 for 32x32 pixels, whose answers do depend on its input, as a training leaves it."""
    model = untrained(MEMBERS, photographs(16).permute(0, 3, 1, 2))
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / "best_model.pth")
    (folder / "meta.json").write_text(json.dumps(meta()))
    return folder / "best_model.pth"


def meta(**changes: Any) -> dict[str, Any]:
    """What a training writes beside that checkpoint."""
    recipe = {"batch_size": 8, "learning_rate": 0.001, "epochs": 1, "input_size": 32, "seed": 0}
    data = {"images": 48, "images_per_group": {"animal": 24, "object": 24}, "validation_images": 12}
    whole = {
        "architecture": "torchvision efficientnet_b0",
        "classes": list(MEMBERS),
        "members": MEMBERS,
        "preprocessing": {"input_size": 32, "resize": "shorter side, then centre crop"},
        "recipe": recipe,
        "data": data | {"training_images": 36, "fingerprint_sha256": "f" * 64},
        "trained_at": "2026-01-02T03:04:05+00:00",
        "metrics": {"val_accuracy": 0.5, "val_class_accuracy": 0.25, "val_loss": 0.7, "epoch": 1},
        "history": [{"epoch": 1, "val_loss": 0.7}],
    }
    return whole | changes


RECORDS = {
    **{key: value for key, value in meta().items() if key != "history"},
    "parity": {"inputs": 70, "max_difference": 1e-7, "tolerance": 1e-4},
    "version": "1.0",
    "evaluation": {"test": {"images": 9, "accuracy": 1.0, "macro_f1": 1.0, "log_loss": 0.0, "calibration_error": 0.0}},
}


def write_pool(folder: Path, groups: tuple[str, ...] = ("animal", "object"), per_group: int = 3) -> Path:
    """A pool of small images, PNG and WebP in turn."""
    folder.mkdir(parents=True)
    entries = []
    for number in range(len(groups) * per_group):
        name = f"{number:02}.{('png', 'webp')[number % 2]}"
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        entries.append({"file": name, "group": groups[number % len(groups)]})
    (folder / "pool.json").write_text(json.dumps({"attribution": "Drawn by <numpy>.", "images": entries}))
    return folder


def pack_red_or_blue(folder: Path, version: str = "1.0", name: str = "red_or_blue") -> Path:
    """A small archive as `python -m export` makes them: red is an animal, blue an object."""
    folder.mkdir(parents=True, exist_ok=True)
    network, example = folder / "network.onnx", folder / "red.png"
    if not network.exists():
        write_onnx(RedOrBlue(), (SIDE, SIDE, 3), network)
        Image.fromarray(flat(200, 30, 30)).save(example)
    handler = {
        "task": "image_classification",
        "labels": ["animal", "object"],
        "network": {"file": "model.onnx", "input_shape": [SIDE, SIDE, 3]},
        "example": {"file": "example.png"},
    }
    config = yaml.safe_dump({"minWorkers": 1, "maxBatchDelay": 1, "handler": handler})
    target = folder / f"{name}-{version}.mar"
    files = {"model.onnx": network, "example.png": example}
    pack(target, name, version, config, {"name": name, "note": "a [bold] one"}, "# A card\n", files)
    return target


def pack_small_efficient(folder: Path, network: Path) -> Path:
    """captcha_image.mar around a SmallEfficient's file, with a training's records, as a source for other precisions."""
    config = yaml.safe_load((SPECS / "captcha_image.yaml").read_text())
    config["handler"]["labels"] = list(MEMBERS)
    config["handler"]["network"]["input_shape"] = [SIDE, SIDE, 3]
    target, files = folder / "captcha_image.mar", {"model.onnx": network, "example.jpg": EXAMPLE}
    pack(target, "captcha_image", "1.0", yaml.safe_dump(config), RECORDS, "# A card\n", files)
    return target


def pack_embedding(folder: Path, weight: float = 1.0) -> Path:
    """An archive whose vectors are the directions of mean colours; another `weight`, another network."""
    folder.mkdir(parents=True, exist_ok=True)
    network = write_embedding(folder / "network.onnx", weight)
    handler = {
        "task": "image_embedding",
        "network": {"file": "model.onnx", "input_shape": [SIDE, SIDE, 3], "outputs": ["embedding"]},
    }
    target, config = folder / "colour.mar", yaml.safe_dump({"minWorkers": 1, "maxBatchDelay": 1, "handler": handler})
    pack(target, "colour", "1.0", config, {"name": "colour"}, "# A card\n", {"model.onnx": network})
    return target


def write_tinted(folder: Path, count: int = 200, seed: int = 0) -> Path:
    """`tinted` pictures in `animal/` (red) and `object/` (blue), half each."""
    for place, name in enumerate(MEMBERS):
        (folder / name).mkdir(parents=True)
        for number in range(place, count, 2):
            Image.fromarray(tinted(1000 * seed + number, place == 0)).save(folder / name / f"{number:03}.png")
    return folder


def unpack(archive: Path, folder: Path) -> Path:
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    return folder


def load(folder: Path) -> Pipeline:
    """An unpacked archive, loaded as a worker does."""
    check_digests(folder)
    spec = read_spec(yaml.safe_load((folder / "model-config.yaml").read_bytes()))
    return Pipeline.load(folder, spec, pool=folder / spec.pool if spec.pool else None)


def run_entry(folder: Path, example: Path) -> dict[str, Any]:
    """Answer one request in a process of its own, which has the archive's own files only."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MARSERVE_"))}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(example)]
    environment["PYTHONPATH"] = str(folder)
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
