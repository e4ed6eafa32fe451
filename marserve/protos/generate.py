"""Write the client stubs beside this file (development environment only): `make protos`."""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = Path("marserve", "protos")
NAMES = ("inference",)  # management is asked over REST


def generate(target: Path) -> None:
    """Compile TorchServe's own .proto files into `target`/marserve/protos/*_pb2*.py."""
    import grpc_tools
    from grpc_tools import protoc

    spec = importlib.util.find_spec("ts")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("torchserve is not installed")
    jar = Path(spec.submodule_search_locations[0], "frontend", "model-server.jar")
    with tempfile.TemporaryDirectory() as scratch:
        # In a folder named as the package, so that the stubs import each other by their full names.
        sources = Path(scratch, PACKAGE)
        sources.mkdir(parents=True)
        with zipfile.ZipFile(jar) as archive:
            for name in NAMES:
                (sources / f"{name}.proto").write_bytes(archive.read(f"proto/{name}.proto"))
        includes = [scratch, str(Path(grpc_tools.__file__).parent / "_proto"), _common_protos()]
        command = ["protoc", *(f"-I{folder}" for folder in includes)]
        command += [f"--python_out={target}", f"--grpc_python_out={target}"]
        if protoc.main([*command, *(str(sources / f"{name}.proto") for name in NAMES)]):
            sys.exit("protoc failed")


def _common_protos() -> str:
    spec = importlib.util.find_spec("google.rpc")
    if spec is None or not spec.submodule_search_locations:
        sys.exit("googleapis-common-protos is not installed")
    return str(Path(spec.submodule_search_locations[0]).parent.parent)


if __name__ == "__main__":
    generate(Path(__file__).parents[2])
