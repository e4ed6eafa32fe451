"""A worker starts without PyTorch, and a handler that wants it still gets the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.export.models import ROOT

BOOT = ROOT / "marserve" / "boot"
TARGET = "ts.protocol.otf_message_handler"


def run(code: str, path: str = str(BOOT)) -> str:
    """Run code in a fresh interpreter that has the boot folder on its path, as a worker has."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_worker_loads_no_torch() -> None:
    code = f"""
import sys
from importlib.util import find_spec
finders = len(sys.meta_path)
import {TARGET} as module
assert "torch" not in sys.modules
assert len(sys.meta_path) == finders - 1
for value in (1, b"bytes", "text", None, [], object()):
    assert not isinstance(value, module.torch.Tensor)
try:
    module.torch.cuda
except AttributeError as error:
    assert "torch" in str(error)
else:
    raise AssertionError
request = module.create_predict_response([b"body", "text", {{"a": 1}}], {{0: "a", 1: "b", 2: "c"}}, "ok", 200)
assert b"body" in request and b"text" in request
assert "torch" not in sys.modules
assert find_spec("torch").origin.endswith("__init__.py")
"""
    run(code)


def test_torch_after_the_worker() -> None:
    code = f"""
import sys
import {TARGET} as module
import torch
assert sys.modules["torch"] is torch and torch.nn.Linear(2, 1).weight.shape == (1, 2)
assert module.torch.Tensor is torch.Tensor
assert isinstance(torch.zeros(2), module.torch.Tensor) and not isinstance(b"", module.torch.Tensor)
response = module.create_predict_response([torch.tensor([1.5])], {{0: "a"}}, "ok", 200)
assert module._retrieve_buffer is not None and b"a" in response
"""
    run(code)


def test_torch_before_the_worker(tmp_path: Path) -> None:
    """A package of that name stands in for the real one, which takes seconds to load: here only the order matters."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("class Tensor: pass\n")
    code = f"""
import sys
import torch
import {TARGET} as module
assert module.torch is torch is sys.modules["torch"]
assert isinstance(torch.Tensor(), module.torch.Tensor)
"""
    run(code, f"{BOOT}{os.pathsep}{tmp_path}")


def test_a_failing_import_leaves_no_stand_in(tmp_path: Path) -> None:
    package = tmp_path / "ts" / "protocol"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "otf_message_handler.py").write_text("import torch\nraise RuntimeError('broken')\n")
    code = f"""
import sys
try:
    import {TARGET}
except RuntimeError as error:
    assert str(error) == "broken"
else:
    raise AssertionError
assert "torch" not in sys.modules
"""
    run(code, f"{BOOT}{os.pathsep}{tmp_path}")
