"""Checkpoint -> ONNX -> parity gate -> archive. `python -m export NAME` is the door."""
