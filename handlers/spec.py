"""The `handler:` section of a model's YAML file as a frozen record, validated once when a worker loads it.

The standard library alone does it: a validation framework would cost every worker memory and start-up time.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from handlers.errors import SpecError

PROVIDERS = ("auto", "cpu", "cuda")
MAX_DECODE_THREADS = 256
_REPLY = ("confidence", "predicted_class", "is_valid", "probabilities", "message")  # to a question, beside its field


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """The ONNX file and how it is run. Its one input is (batch, *input_shape) of `input_type`."""

    file: str
    input_shape: tuple[int, ...]
    input_type: str = "uint8"
    outputs: tuple[str, ...] = ("probabilities",)
    # How many items one `session.run` takes. On a CPU more is slower: the activations fall out of the cache.
    chunk: int = 4
    threads: int = 1
    provider: str = "auto"
    # On a GPU every run is of one of these sizes, filled up; none given, they are the powers of two up to `chunk`.
    batch_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.outputs:
            raise SpecError("handler.network.outputs must name one output at least")
        if self.provider not in PROVIDERS:
            raise SpecError(f"handler.network.provider must be one of {', '.join(PROVIDERS)}, not {self.provider!r}")
        for name in ("chunk", "threads"):
            if getattr(self, name) < 1:
                raise SpecError(f"handler.network.{name} must be at least 1")
        if not self.input_shape or min(self.input_shape) < 1:
            raise SpecError("handler.network.input_shape must be a list of positive numbers")
        if list(self.batch_sizes) != sorted({size for size in self.batch_sizes if size > 0}):
            raise SpecError("handler.network.batch_sizes must be positive numbers, each above the one before")


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """What one image may weigh before anything of it is decoded."""

    max_bytes: int = 16 * 2**20
    max_pixels: int = 50_000_000
    max_decoded_pixels: int = 16_000_000

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels, self.max_decoded_pixels) < 1:
            raise SpecError("handler.limits must be positive numbers")


@dataclass(frozen=True, slots=True)
class ScalingSpec:
    """What is taken off each compressed feature, and what is left is divided by."""

    center: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.center) != len(self.scale):
            raise SpecError("handler.scaling must have as many numbers in center as in scale")
        if min(self.scale, default=1.0) <= 0:
            raise SpecError("handler.scaling: every scale must be above 0")


@dataclass(frozen=True, slots=True)
class QuestionSpec:
    """What is asked of an image, as the reply puts it."""

    field: str  # of the reply, for the answer
    answers: Mapping[str, bool | None]  # by label: yes, no, or neither
    messages: Mapping[str, str]  # by label
    # From which confidence on an answer is valid, unless the request says otherwise; without one none is said to be.
    confidence_threshold: float | None = None
    unsure: str = ""  # the message below it

    def __post_init__(self) -> None:
        where = "handler.question"
        if not self.field.isidentifier() or self.field in _REPLY:
            raise SpecError(f"{where}.field must be a name other than {', '.join(_REPLY)}, not {self.field!r}")
        if not {True, False} <= set(self.answers.values()):
            raise SpecError(f"{where}.answers must be true for one label at least, and false for another")
        if self.messages.keys() != self.answers.keys() or not all(self.messages.values()):
            raise SpecError(f"{where}.messages must have a text for every label in answers, and for no other")
        if self.confidence_threshold is not None and not 0 <= self.confidence_threshold <= 1:
            raise SpecError(f"{where}.confidence_threshold must be from 0 to 1, not {self.confidence_threshold}")
        if bool(self.unsure) != (self.confidence_threshold is not None):
            raise SpecError(f"{where}.unsure goes with confidence_threshold: give both, or neither")


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """One model. `task` names the module that decodes and encodes; everything else is data."""

    task: str
    labels: tuple[str, ...] = ()
    network: NetworkSpec | None = None
    # A folder of images inside the archive; the environment variable MARSERVE_POOL replaces it.
    pool: str = ""
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    # A request that this model answers: {"file": name} inside the archive, or {"json": {...}}.
    example: Mapping[str, Any] = field(default_factory=dict)
    # Of a network that takes features of a movement: their names in its order, and their values in a typical person's.
    features: tuple[str, ...] = ()
    reference: tuple[float, ...] = ()
    # Of the score; what lies on it is human, or not flagged.
    threshold: float = 0.5
    scaling: Mapping[str, ScalingSpec] = field(default_factory=dict)  # by the pointer that moved
    # With more than one, the items of a batch are decoded side by side, while the network runs those that are ready.
    decode_threads: int = 1
    # Resident megabytes (10^6 bytes) over which marserve replaces a worker between two batches; 0 for no limit.
    memory_limit_mb: int = 0
    # How an image becomes the input of a network of images: see loaders.py.
    preprocessing: str = "crop"
    # A file in the archive, of images with known labels that a request may name by their number: see samples.py.
    samples: str = ""
    # A file in the archive: OpenCV's classifier that finds faces.
    cascade: str = ""
    question: QuestionSpec | None = None

    def __post_init__(self) -> None:
        if self.memory_limit_mb < 0:
            raise SpecError("handler.memory_limit_mb must be a number of megabytes, or 0 for no limit")
        if not 0 <= self.threshold <= 1:
            raise SpecError(f"handler.threshold must be from 0 to 1, not {self.threshold}")
        if not 1 <= self.decode_threads <= MAX_DECODE_THREADS:
            raise SpecError(f"handler.decode_threads must be from 1 to {MAX_DECODE_THREADS}")


def read_spec(config: Any) -> HandlerSpec:
    """The whole model-config mapping -> the record of its `handler:` section. Raises SpecError."""
    section = config.get("handler") if isinstance(config, Mapping) else None
    if not isinstance(section, Mapping):
        raise SpecError("model-config.yaml has no 'handler:' section")
    record: HandlerSpec = _record(HandlerSpec, section, "handler")
    return record


_WORDS = {str: "text", int: "a whole number", bool: "true or false"}


def _record(kind: type[Any], section: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    required = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if unknown := sorted(str(key) for key in section if key not in hints):
        raise SpecError(f"{where} has unknown keys: {', '.join(unknown)}; known are {', '.join(sorted(hints))}")
    if missing := sorted(required - set(section)):
        raise SpecError(f"{where} lacks {', '.join(missing)}")
    return kind(**{name: _value(hints[name], value, f"{where}.{name}") for name, value in section.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """Check one value against its field's type; lists become tuples, mappings records."""
    if get_origin(hint) is Mapping:
        return _records(get_args(hint)[1], value, where)
    if get_origin(hint) is UnionType:  # `Kind | None`
        return None if value is None else _value(get_args(hint)[0], value, where)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise SpecError(f"{where} must be a section of keys and values")
        return _record(hint, value, where)
    if hint in (tuple[str, ...], tuple[int, ...]):
        element = get_args(hint)[0]
        if not isinstance(value, (list, tuple)) or not all(type(v) is element for v in value):
            raise SpecError(f"{where} must be a list of {element.__name__}")
        return tuple(value)
    if hint == tuple[float, ...]:
        if not isinstance(value, (list, tuple)):
            raise SpecError(f"{where} must be a list of numbers")
        return tuple(_number(v, f"{where}[{index}]") for index, v in enumerate(value))
    if hint is float:
        return _number(value, where)
    if type(value) is not hint:
        raise SpecError(f"{where} must be {_WORDS[hint]}, not {value!r}")
    return value


def _records(kind: Any, value: Any, where: str) -> Mapping[str, Any]:
    """A mapping whose keys the spec's author chooses; its values are records, or anything."""
    if not isinstance(value, Mapping):
        raise SpecError(f"{where} must be a section of keys and values")
    if kind is Any:
        return value
    return {str(name): _value(kind, inner, f"{where}.{name}") for name, inner in value.items()}


def _number(value: Any, where: str) -> float:
    """Whole numbers too: YAML has no other way to write 3."""
    try:
        if type(value) in (int, float) and math.isfinite(value):
            return float(value)
    except OverflowError:
        pass
    raise SpecError(f"{where} must be a finite number")
