from __future__ import annotations

from pathlib import Path

import pytest
import torch

from export.image_classifier import load_network, read_meta
from export.untrained import main, write_untrained


def test_its_answers_depend_on_the_image(tmp_path: Path) -> None:
    checkpoint = write_untrained(tmp_path, 32)
    meta = read_meta(checkpoint)
    assert meta["preprocessing"]["input_size"] == 32
    model = load_network(checkpoint, meta["members"])
    torch.manual_seed(0)
    with torch.no_grad():
        answers = model(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8))
    assert answers.shape == (4, 2)
    assert torch.isfinite(answers).all()
    assert answers.std(dim=0).max() > 1e-3


def test_the_size_is_checked(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--size", "8"])
