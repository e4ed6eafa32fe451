"""Dependencies point one way: what serves does not know what trains, and what is served knows neither."""

from __future__ import annotations

import ast
import json
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import handlers
from handlers.trajectory import NAMES
from tests.handlers.networks import write_digests, write_scorer

ROOT = Path(__file__).parents[2]
OURS = {"handlers", "training", "export", "marserve", "loadtest", "captcha", "tests"}
# What a package may import of this repository, itself aside.
MAY = {
    "handlers": set[str](),
    "training": {"handlers"},
    "export": {"training", "handlers"},
    "marserve": {"handlers"},
    "loadtest": {"marserve", "handlers"},
}
# What a package must never import from outside.
NOT = {
    "handlers": {"torch", "torchvision", "ts", "pydantic", "yaml"},
    "training": {"ts", "pydantic", "onnxruntime"},
    "export": {"ts"},
    "marserve": {"torch", "torchvision", "onnx", "sklearn"},
    "loadtest": {"torch", "torchvision", "onnx", "sklearn"},
}


def imports(source: str, package: str) -> set[str]:
    """The top-level names of all imports, those inside functions too; a relative one is of its own package."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(package if node.level else str(node.module).partition(".")[0])
    return names


def test_imports_are_found_everywhere() -> None:
    source = "import a.b as c\nfrom d.e import f\nfrom . import g\ndef h():\n  import i\n  from j import k\n"
    assert imports(source, "package") == {"a", "d", "package", "i", "j"}


@pytest.mark.parametrize("package", MAY)
def test_directions(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        found = imports(path.read_text(), package)
        assert not found & (OURS - MAY[package] - {package}), path
        assert not found & NOT[package], path


def test_metrics_travel_light() -> None:
    found = imports((ROOT / "handlers" / "metrics.py").read_text(), "handlers")
    assert found - sys.stdlib_module_names == {"prometheus_client"}
    for path in sorted((ROOT / "handlers").rglob("*.py")):
        assert path.name == "metrics.py" or "prometheus_client" not in imports(path.read_text(), "handlers"), path


def test_importing_the_handlers_loads_nothing_heavy() -> None:
    """A worker's memory and its start-up time: PIL comes with the first transparent image only."""
    modules = [module.name for module in pkgutil.walk_packages(handlers.__path__, "handlers.")]
    assert {"handlers.entry", "handlers.tasks.random_images"} <= set(modules)
    heavy = ["torch", "torchvision", "pydantic", "PIL", "yaml", "ts", "prometheus_client"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
    assert done.stderr == ""


@pytest.mark.parametrize("task", ["trajectory_classification", "trajectory_anomaly"])
def test_workers_of_movements_load_no_opencv(tmp_path: Path, task: str) -> None:
    """They answer with what numpy and onnxruntime give them: less memory per worker."""
    count = len(NAMES)
    output, zeros, ones = {"trajectory_classification": "human"}.get(task, "anomaly"), [0] * count, [1] * count
    write_scorer(tmp_path / "model.onnx", zeros, output=output)
    write_digests(tmp_path)
    network = {"file": "model.onnx", "input_shape": [count], "input_type": "float32", "outputs": [output]}
    scaling = {"center": zeros, "scale": ones}
    section = {"task": task, "labels": ["bot", "human"], "network": network, "features": NAMES, "reference": zeros}
    section |= {"scaling": {"mouse": scaling, "touch": scaling}}
    movement = {"x": list(range(9)), "y": list(range(9)), "t": list(range(9)), "explain": True}
    code = (
        "import json, sys\n"
        "from types import SimpleNamespace\n"
        "from handlers.entry import Handler\n"
        f"config = json.loads({json.dumps({'handler': section})!r})\n"
        f"properties = {{'model_dir': {str(tmp_path)!r}}}\n"
        "context = SimpleNamespace(system_properties=properties, model_yaml_config=config)\n"
        "handler = Handler()\n"
        "handler.initialize(context)\n"
        f"reply, = handler._pipeline([{{'body': {movement!r}}}])\n"
        "assert reply.status == 200, reply\n"
        "print(*[name for name in ('cv2', 'imagesize', 'PIL', 'handlers.image') if name in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")
