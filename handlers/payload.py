"""What a client may send, brought to one form. Knows nothing of images or models.

Accepted: a raw body; multipart or gRPC with a field `data`, `file` or `body`; JSON, one object or
`{"instances": [...]}`. TorchServe hands over a mapping from field name to bytes, or to what it has parsed already.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

import orjson

from handlers.errors import InvalidContentError, TooLargeError, UndecodableError
from handlers.options import of_text

FIELDS = ("data", "file", "body")
MAX_INSTANCES = 100

# One thing to answer: a file's bytes, or a JSON object that the task reads.
Instance = bytes | dict[str, Any]


class Payload(NamedTuple):
    """The instances of one request, or for each the error that reading it gave; `many` asks for a list of answers."""

    instances: list[Instance | InvalidContentError]
    many: bool


def parse(row: Mapping[str, Any], options: Collection[str] = ()) -> Payload:
    """One request as TorchServe hands it over -> its instances. Fields with the names of options are laid into each of
    them, unless it has that field itself: a file's bytes become `{"data": bytes, ...}` then.

    Raises InvalidContentError, TooLargeError or UndecodableError, which concern the request as a whole.
    """
    if not options:
        return _content(row)
    given = {name: of_text(row[name]) for name in options if row.get(name) is not None}
    instances, many = _content({name: value for name, value in row.items() if name not in options})
    refuse_unknown(sorted(row.keys() - {*FIELDS, *options})[:5], options)
    return Payload([_laid(given, instance) for instance in instances] if given else instances, many)


def _content(row: Mapping[str, Any]) -> Payload:
    value = next((row[name] for name in FIELDS if row.get(name) is not None), None)
    if value is None:
        names = ", ".join(repr(name) for name in sorted(row)[:5])
        if row:
            raise InvalidContentError(f"expected a field 'data', 'file' or 'body'; the request has only {names}")
        raise InvalidContentError("the request is empty, or a form: send a body with the Content-Type of what it is")
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")  # JSON text may hold lone surrogates
    if isinstance(value, (bytes, bytearray)):
        data = bytes(value)
        if not looks_like_json(data):
            return Payload([data], many=False)
        value = parse_json(data)
    if not isinstance(value, dict):
        raise InvalidContentError('the JSON must be an object, or {"instances": [...]} for several')
    if "instances" not in value:
        return Payload([value], many=False)
    if beside := sorted(str(key)[:40] for key in value if key != "instances")[:5]:
        raise InvalidContentError(
            f"beside 'instances' nothing is read: put {', '.join(map(repr, beside))} into each of them"
        )
    instances = value["instances"]
    if not isinstance(instances, list) or not instances:
        raise InvalidContentError("'instances' must be a list with at least one element")
    if len(instances) > MAX_INSTANCES:
        raise TooLargeError(f"'instances' has {len(instances):,} elements; at most {MAX_INSTANCES} are accepted")
    return Payload([_instance(element) for element in instances], many=True)


def refuse_unknown(unknown: Collection[str], known: Iterable[str]) -> None:
    """Raises InvalidContentError where a request has any unknown fields; it names them, and the known ones."""
    if unknown:
        raise InvalidContentError(f"unknown fields {names(unknown)}; known: {', '.join(known)}")


def names(keys: Iterable[object]) -> str:
    """The first of a client's keys for a message: it may have sent thousands, each of them a book."""
    ordered = sorted(str(key)[:40] for key in keys)
    return ", ".join(map(repr, ordered[:8])) + (", ..." if len(ordered) > 8 else "")


def looks_like_json(data: bytes) -> bool:
    return data.lstrip(b" \t\r\n\xef\xbb\xbf")[:1] in (b"{", b"[")  # white space, and a byte order mark


def parse_json(data: bytes) -> Any:
    """Strict JSON. Raises UndecodableError, and InvalidContentError for NaN and Infinity."""
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(data)
    try:  # once more: it also reads UTF-16 and lone surrogates, and says better what is wrong
        return json.loads(data, parse_constant=_refuse_constant)
    except RecursionError:
        raise UndecodableError("the JSON is nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError among them
        raise UndecodableError(f"the body is not valid JSON: {error}") from None


def binary(instance: Mapping[str, Any]) -> bytes:
    """The bytes of a JSON instance `{"data": "<base64>"}` (also `b64`, as TensorFlow Serving names it).

    Raises InvalidContentError where there are none, UndecodableError where they are not base64.
    """
    text = instance.get("data", instance.get("b64"))
    if isinstance(text, bytes):  # as `parse` lays options beside it; JSON has none
        return text
    if not isinstance(text, str):
        raise InvalidContentError("""expected {"data": "<base64>"}""")
    if text.startswith("data:"):  # a data URL, as browsers make them
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UndecodableError("'data' is not valid base64") from None


def _laid(given: dict[str, Any], instance: Instance | InvalidContentError) -> Instance | InvalidContentError:
    if isinstance(instance, InvalidContentError):
        return instance
    return given | (instance if isinstance(instance, dict) else {"data": instance})


def _instance(element: Any) -> Instance | InvalidContentError:
    if isinstance(element, dict):
        return element
    if isinstance(element, str):
        return {"data": element}
    return InvalidContentError("an instance must be a JSON object or a base64 string")


def _refuse_constant(name: str) -> NoReturn:
    raise InvalidContentError(f"{name} is no number of JSON: send a finite one")
