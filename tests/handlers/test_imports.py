"""Dependencies point one way: what serves does not know what trains, and what is served knows neither."""

from __future__ import annotations

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import handlers

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


def test_importing_the_handlers_loads_nothing_heavy() -> None:
    """A worker's memory and its start-up time: PIL comes with the first transparent image only."""
    modules = [module.name for module in pkgutil.walk_packages(handlers.__path__, "handlers.")]
    assert {"handlers.entry", "handlers.tasks.random_images"} <= set(modules)
    heavy = ["torch", "torchvision", "pydantic", "PIL", "yaml", "ts"]
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
    assert done.stderr == ""
