"""The network takes pixels as they are decoded, normalises them as torchvision does, and adds classes up to groups."""

from __future__ import annotations

import torch
from torch import nn
from torchvision.models import EfficientNet_B0_Weights
from torchvision.transforms import v2

from training.network import MEAN, STD, ImageClassifier


def pixels(size: int = 32, batch: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def built() -> ImageClassifier:
    """Two classes in the first group, three in the second; batch statistics taken, else all outputs are near zero."""
    torch.manual_seed(0)
    model = ImageClassifier([0, 0, 1, 1, 1])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.inference_mode():
        model.train()(pixels(batch=16))
    return model.eval()


@torch.inference_mode()
def test_uint8_in_probabilities_of_the_groups_out() -> None:
    model = built()
    out = model(pixels())
    assert out.shape == (3, 2)
    assert out.dtype == torch.float32
    classes = model.class_logits(pixels())
    assert classes.shape == (3, 5)
    assert (classes[0] - classes[1]).abs().max() > 1e-2  # different images, different answers
    of_class = classes.softmax(1)
    expected = torch.stack([of_class[:, :2].sum(1), of_class[:, 2:].sum(1)], dim=1)
    torch.testing.assert_close(out, expected)


@torch.inference_mode()
def test_certainty_is_no_nan() -> None:
    assert built().group_probabilities(torch.tensor([[1e4, 0, 0, 0, 0]])).tolist() == [[1, 0]]


@torch.inference_mode()
def test_normalisation_is_torchvisions() -> None:
    model = built()
    seen: list[torch.Tensor] = []
    model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    every_value = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).repeat(1, 3, 2, 2)
    logits = model.class_logits(every_value)
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])(every_value)
    torch.testing.assert_close(seen[0], reference, rtol=0, atol=2e-6)
    torch.testing.assert_close(logits, model.network(reference), rtol=1e-3, atol=1e-4)


def test_statistics_are_those_of_torchvisions_weights() -> None:
    preset = EfficientNet_B0_Weights.IMAGENET1K_V1.transforms()
    assert list(MEAN) == preset.mean
    assert list(STD) == preset.std


def test_a_checkpoint_holds_weights_only() -> None:
    """The normalisation is the module's own: a checkpoint cannot change it, and plain weights load."""
    state = built().state_dict()
    assert state.keys() == {f"network.{name}" for name in built().network.state_dict()}
    other = ImageClassifier([0, 0, 1, 1, 1]).eval()
    other.load_state_dict(state)
    with torch.inference_mode():
        torch.testing.assert_close(other(pixels()), built()(pixels()))


def test_every_weight_learns() -> None:
    model = built().train()
    loss = nn.functional.cross_entropy(model.class_logits(pixels(batch=4)), torch.tensor([0, 1, 2, 3]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in model.parameters())
