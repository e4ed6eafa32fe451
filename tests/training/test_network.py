"""The network takes pixels as they are decoded, and normalises them as torchvision does."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import EfficientNet_B0_Weights
from torchvision.transforms import v2

from training.network import MEAN, STD, ImageClassifier


def pixels(size: int = 32, batch: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built(classes: int) -> ImageClassifier:
    torch.manual_seed(0)
    return ImageClassifier(classes).eval()


@torch.inference_mode()
def test_uint8_in_logits_out() -> None:
    logits = built(5)(pixels())
    assert logits.shape == (3, 5)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()
    assert not torch.allclose(logits[0], logits[1], rtol=1e-3)  # different images, different answers


@torch.inference_mode()
def test_normalisation_is_torchvisions() -> None:
    model = built(2)
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    every_value = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    logits = model(every_value)
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(every_value)
    torch.testing.assert_close(seen[0], reference, rtol=0, atol=2e-6)
    torch.testing.assert_close(logits, model.network(reference))


def test_statistics_are_those_of_torchvisions_weights() -> None:
    preset = EfficientNet_B0_Weights.IMAGENET1K_V1.transforms()
    assert list(MEAN) == preset.mean
    assert list(STD) == preset.std


def test_a_checkpoint_holds_weights_only() -> None:
    """The normalisation is the module's own: a checkpoint cannot change it, and plain weights load."""
    state = built(2).state_dict()
    assert state.keys() == {f"network.{name}" for name in built(2).network.state_dict()}
    other = ImageClassifier(2).eval()
    other.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(other(pixels()), built(2)(pixels()))


def test_every_weight_learns() -> None:
    model = built(2).train()
    loss = nn.functional.cross_entropy(model(pixels(batch=4)), torch.tensor([0, 1, 0, 1]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())
