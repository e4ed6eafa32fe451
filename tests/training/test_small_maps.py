"""The small maps' convolution is nn.Conv2d: same values, same gradients, same weights in the checkpoint."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from training.network import ImageClassifier
from training.small_maps import SmallMapConv2d, use_small_maps


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 4), st.integers(1, 4), st.sampled_from([3, 5]), st.sampled_from([1, 2]), st.integers(0, 2**31 - 1)
)
def test_values_and_gradients(height: int, width: int, side: int, stride: int, seed: int) -> None:
    torch.manual_seed(seed)
    plain = nn.Conv2d(6, 6, side, stride, side // 2, groups=6, bias=False)
    small = SmallMapConv2d(6, 6, side, stride, side // 2, groups=6, bias=False)
    small.load_state_dict(plain.state_dict())
    results = []
    pixels = torch.randn(3, 6, height, width)
    for convolution in (plain, small):
        given_pixels = pixels.clone().requires_grad_()
        out = convolution(given_pixels)
        (out**2).sum().backward()
        results.append((out, given_pixels.grad, convolution.weight.grad))
    for expected, found in zip(*results, strict=True):
        assert expected is not None
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_a_whole_network_stays_the_same(training: bool) -> None:
    torch.manual_seed(0)
    model = ImageClassifier([0, 0, 1]).train(training)
    pixels = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(1)
    expected = model.class_logits(pixels)
    model.load_state_dict(before)
    use_small_maps(model)
    torch.manual_seed(1)
    torch.testing.assert_close(model.class_logits(pixels), expected, rtol=1e-3, atol=1e-4)
    assert sum(isinstance(module, SmallMapConv2d) for module in model.modules()) == 16  # one per block
    assert model.state_dict().keys() == before.keys()
