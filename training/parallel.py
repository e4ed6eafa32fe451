"""Several processes that train one network together, as torchrun starts them. With one process nothing happens.

torchrun --standalone --nproc-per-node 2 training/train_efficientnet.py --data_dir images
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import distributed


def join() -> torch.device:
    """Meet the other processes, if there are any; the device that is this process's own."""
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return device


def leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def average(tensors: Sequence[torch.Tensor]) -> None:
    """Each tensor becomes its mean over the processes, in one exchange for all of them."""
    if size() == 1 or not tensors:
        return
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    flat /= size()
    for tensor, mean in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(mean.view(tensor.shape))
