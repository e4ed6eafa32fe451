"""What a request may set beside its content, for all its instances: in a field of a form, an input of gRPC or a header.

A task declares its options by name, each with the check of a value as JSON has it; it finds them among the fields of
the instance, wherever they came from. What the instance says itself goes before a field, and a field before a header.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

import orjson

from handlers.errors import InvalidContentError

# A value -> what the task gets. Raises ValueError, whose text says what the value must be.
Options = Mapping[str, Callable[[Any], Any]]
NONE: Options = MappingProxyType({})


def share(value: Any) -> float:
    if type(value) in (int, float) and 0 <= value <= 1:
        return float(value)
    raise ValueError("a number from 0 to 1, as in 0.7")


def from_headers(headers: Mapping[str, Any], options: Options) -> dict[str, str]:
    """`X-Confidence-Threshold: 0.8` -> `{"confidence_threshold": "0.8"}`; the case of a header's name says nothing."""
    wanted = {f"x-{name.replace('_', '-')}": name for name in options}
    # Beside the headers TorchServe has what it knows of the fields, which is no text.
    return {wanted[name.lower()]: v for name, v in headers.items() if name.lower() in wanted and isinstance(v, str)}


def of_text(value: Any) -> Any:
    """What a field or a header holds, as JSON would have it: `0.8` is a number; what is no JSON stays text."""
    if not isinstance(value, bytes | bytearray | str):
        return value
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(value)
    return value if isinstance(value, str) else value.decode("utf-8", "replace")


def check(instance: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The instance with its options as the task gets them. Raises InvalidContentError."""
    checked = dict(instance)
    for name in options.keys() & instance.keys():
        try:
            checked[name] = options[name](instance[name])
        except ValueError as error:
            raise InvalidContentError(f"{name!r} must be {error}") from None
    return checked
