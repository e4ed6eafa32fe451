"""What most trainings are tried with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.training.photos import write_photos


@pytest.fixture(scope="package", autouse=True)
def one_thread() -> Iterator[None]:
    """For torch: on a busy machine, threads that wait for each other make small networks many times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four classes in two groups."""
    return write_photos(tmp_path_factory.mktemp("photos") / "images")
