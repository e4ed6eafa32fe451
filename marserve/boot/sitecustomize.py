"""Python runs this at start-up where its folder is on PYTHONPATH: TorchServe's workers then start without PyTorch.

`ts.protocol.otf_message_handler` (TorchServe 0.12.0) is the worker's only import of torch, for one
`isinstance(value, torch.Tensor)`. While that module is loaded, a stand-in takes torch's place; afterwards the name is
free again, so a handler that imports torch gets the real one, and from then on the check sees real tensors. Its slow
codec is replaced at the same moment, before anything has taken functions out of it; so is what `ts.service` adds to it,
and the worker gets something to do between two batches.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import wire  # of this folder, which is on PYTHONPATH
import worker

_PROTOCOL, _SERVICE = "ts.protocol.otf_message_handler", "ts.service"


class _NoTensor:
    """Nothing is an instance of this: without PyTorch there are no tensors."""


class _TorchStandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        loaded = sys.modules.get("torch")
        if loaded is not None and loaded is not self:
            return getattr(loaded, name)
        if name == "Tensor":
            return _NoTensor
        raise AttributeError(f"module 'torch' is not loaded (asked for {name!r})")


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == _SERVICE:
            self._loader.exec_module(module)
            installs = [wire.install_service]
        else:
            self._exec_without_torch(module)
            installs = [wire.install, worker.install]
        if sys.modules["ts"].__version__ == wire.VERSION:
            for install in installs:
                install(module)

    def _exec_without_torch(self, module: ModuleType) -> None:
        if "torch" in sys.modules:
            self._loader.exec_module(module)
            return
        sys.modules["torch"] = _TorchStandIn("torch")
        try:
            self._loader.exec_module(module)
        finally:
            del sys.modules["torch"]


class _Finder(MetaPathFinder):
    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None,  # noqa: ARG002
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


sys.meta_path[:0] = [_Finder(_PROTOCOL), _Finder(_SERVICE)]
