"""What clients rely on in a model, and how a new version of it departs from that."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from typing import Any

from handlers.answers import form_of
from handlers.archive import SELFTEST
from marserve.archive import Archive
from marserve.errors import MarserveError


def differences(old: Archive, new: Archive) -> list[str]:
    """In words, of `new`. What neither records, or a reply that one of them does not record, is not compared.

    Raises MarserveError for a self-test that cannot be read.
    """
    return [*_tasks(old, new), *_labels(old, new), *_requests(old, new), *_replies(old, new)]


def _tasks(old: Archive, new: Archive) -> Iterator[str]:
    before, now = (archive.handler.get("task") for archive in (old, new))
    if before != now:
        yield f"it is for {now or 'nothing that it says'}, not for {before or 'what the old one does not say'}"


def _labels(old: Archive, new: Archive) -> Iterator[str]:
    before, now = (archive.handler.get("labels") or [] for archive in (old, new))
    if gone := [label for label in before if label not in now]:
        yield f"it never answers {', '.join(map(str, gone))}"
    if added := [label for label in now if label not in before]:
        yield f"it may answer {', '.join(map(str, added))}, which is new"


def _requests(old: Archive, new: Archive) -> Iterator[str]:
    before, now = _sent(old), _sent(new)
    if before and now and before != now:
        yield f"it takes {now}, not {before}"
    features = [archive.handler.get("features") for archive in (old, new)]
    if all(features) and features[0] != features[1]:
        yield "its features, which clients may send themselves, are others or in another order"


def _sent(archive: Archive) -> str:
    file = archive.example.get("file", "")
    return "JSON" if "json" in archive.example or file.endswith(".json") else "files" if file else ""


def _replies(old: Archive, new: Archive) -> Iterator[str]:
    before, now = _reply(old), _reply(new)
    if not before or not now:
        return
    for name in sorted(before | now):
        if name not in now:
            yield f"its reply has no {name!r}"
        elif name not in before:
            yield f"its reply has {name!r}, which is new"
        elif now[name] != before[name]:
            yield f"{name!r} of its reply is a {now[name]}, not a {before[name]}"


def _reply(archive: Archive) -> dict[str, str]:
    """The type of every place in the replies that the self-test has; labels are `*`, for they are compared already."""
    if SELFTEST not in archive.files:
        return {}
    labels = archive.handler.get("labels") or []
    try:
        cases = json.loads(archive.read(SELFTEST))["cases"]
        forms = [case["form"] if "form" in case else form_of(case["answer"]) for case in cases]
        return {place: kind for form in forms for place, kind in _places(form, labels, "")}
    except (ValueError, LookupError, TypeError) as error:
        raise MarserveError(f"{archive.path}: {SELFTEST} is damaged: {error!r}") from None


def _places(form: Any, labels: Container[Any], where: str) -> Iterator[tuple[str, str]]:
    if isinstance(form, Mapping):
        for name, inner in form.items():
            step = "*" if name in labels else name
            yield from _places(inner, labels, f"{where}.{step}" if where else step)
    elif isinstance(form, list):
        for inner in form:
            yield from _places(inner, labels, f"{where}[]")
    else:
        yield where, str(form)
