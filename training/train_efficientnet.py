"""Train EfficientNet-B0 on photographs: train_image.py, whose recipe is this network's unless another is given.

python training/train_efficientnet.py --data_dir images --output_dir models
"""

from __future__ import annotations

from training.cli import run_script
from training.train_image import main

if __name__ == "__main__":
    run_script(main)
