"""Label Studio's exports JSON and JSON-MIN: which image has which labels. Knows nothing of files but the export's.

JSON is a list of tasks with `data` and `annotations`, whose results of the type `choices` (or `taxonomy`) are named by
their `from_name`. JSON-MIN is one flat object per annotation: the task's data, each choice under its `from_name`, and
the keys of `_META`. What an export has beside that, or in another shape, is no label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from handlers.image import SUFFIXES
from training.cli import DataError

_META = {"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"}  # of JSON-MIN
_IMAGES = SUFFIXES | {".avif", ".bmp", ".gif", ".heic", ".jfif", ".svg", ".tif", ".tiff"}  # what an image's key holds
_NO_NAME = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff/\\]|^\.")

Label = tuple[str, str]  # group and class; both are safe as a folder's name


@dataclass(frozen=True, slots=True)
class Task:
    name: str  # for messages, on one line
    image: str  # a URL or a path, as the export has it; empty where the task has none
    labels: frozenset[Label]  # of all annotations: one where they agree, none where there is no choice


def read(path: Path, image: str | None = None, group: str | None = None, class_: str | None = None) -> list[Task]:
    """The tasks of an export; `image`, `group` and `class_` are keys where the export leaves a choice.

    Without `group` a choice `group/class` is split at its first `/`, and a plain one is group and class at once. Raises
    DataError where the file is no export, a key has to be named, or a label cannot name a folder.
    """
    split = [_split(task) for task in _tasks(path)]
    image = _pick("image", "an image", image, {key for data, _ in split for key in data if _is_image(data[key])})
    found = {
        key
        for _, annotations in split
        for annotation in annotations
        for key, value in annotation.items()
        if key != image and _choices(value) and not _is_image(value)
    }
    if group is not None:
        if class_ is None:
            raise DataError("--group needs --class KEY beside it")
        _pick("group", "a choice", group, found)
    class_ = _pick("class", "a choice", class_, found)
    return [
        _task(number, data.get(image), {label for one in annotations for label in _labels(one, group, class_, path)})
        for number, (data, annotations) in enumerate(split, start=1)
    ]


def paths(reference: str) -> list[str]:
    """The paths that a task's URL or path may mean, the likelier first; nothing is known about them."""
    try:
        url = urlsplit(reference)
    except ValueError:  # "http://[" is none
        return [reference]
    local = parse_qs(url.query).get("d")
    if local and url.path.rstrip("/").endswith("/local-files"):
        return [local[0]]
    return [unquote(url.path), reference]  # keys in a bucket are not encoded, and may hold "#" or "?"


def has_suffix(reference: str, suffixes: frozenset[str]) -> bool:
    return any(PurePosixPath(path).suffix.lower() in suffixes for path in paths(reference))


def _tasks(path: Path) -> list[dict[str, Any]]:
    try:
        tasks = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise DataError(f"{path} is nested too deeply for an export of Label Studio") from None
    except ValueError as error:  # also of bytes that are no text, and of endless integers
        raise DataError(f"{path} is not JSON ({error}); export it as JSON or JSON-MIN") from None
    if not isinstance(tasks, list) or not tasks:
        raise DataError(f"{path} is not a list of tasks; export it as JSON or JSON-MIN")
    for number, task in enumerate(tasks, start=1):
        if not isinstance(task, dict):
            raise DataError(f"{path}: task {number} is not an object; export it as JSON or JSON-MIN")
    return tasks


def _split(task: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A task's data, and what each annotation has chosen under each key."""
    if not isinstance(task.get("data"), dict):
        flat = {key: value for key, value in task.items() if key not in _META}
        return flat, [flat]
    annotations = []
    for annotation in _objects(task.get("annotations")):
        chosen: dict[str, list[Any]] = {}
        for result in _objects(annotation.get("result")):
            if result.get("type") in ("choices", "taxonomy") and isinstance(result.get("from_name"), str):
                chosen.setdefault(result["from_name"], []).append(result.get("value"))
        if not annotation.get("was_cancelled"):
            annotations.append(chosen)
    return task["data"], annotations


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _choices(value: object) -> list[str]:
    """Of "cat", {"choices": ["cat"]}, {"taxonomy": [["animal", "cat"]]} or a list of these; nested ones with a `/`."""
    found: list[Any] = []
    for item in value if isinstance(value, list) else [value]:
        inner = item.get("choices", item.get("taxonomy")) if isinstance(item, dict) else [item]
        found += inner if isinstance(inner, list) else []
    nested = (choice if isinstance(choice, list) else [choice] for choice in found)
    texts = ["/".join(parts) for parts in nested if all(isinstance(part, str) for part in parts)]
    return [text.strip() for text in texts if text.strip()]


def _labels(chosen: dict[str, Any], group: str | None, class_: str, path: Path) -> set[Label]:
    classes = _choices(chosen.get(class_))
    if group is not None:
        labels = {(in_group, name) for in_group in _choices(chosen.get(group)) for name in classes}
    else:
        parted = (name.partition("/") for name in classes)
        labels = {(before.strip(), after.strip() if slash else before) for before, slash, after in parted}
    for name in (name for label in labels for name in label):
        if not name or _NO_NAME.search(name) or len(name.encode()) > 255:
            raise DataError(
                f"{_short(name)} of a choice cannot name a folder (no leading dot, no further '/', no '\\', no control "
                f"characters, 1 to 255 bytes); rename the choice in {path}"
            )
    return labels


def _pick(flag: str, what: str, asked: str | None, found: Collection[str]) -> str:
    """The key that is asked for, or the only one."""
    names = ", ".join(_short(key) for key in sorted(found))
    if asked is not None and asked not in found:
        raise DataError(f"no {_short(asked)} holds {what} in the export; there are: {names or 'none'}")
    if not found:
        raise DataError(f"no key of the export holds {what}")
    if asked is None and len(found) > 1:
        raise DataError(f"several keys hold {what}: {names}; name one with --{flag} KEY")
    return next(iter(found)) if asked is None else asked


def _is_image(value: object) -> bool:
    return isinstance(value, str) and has_suffix(value, _IMAGES)


def _task(number: int, image: object, labels: set[Label]) -> Task:
    # Half a character (a lone surrogate) can be neither printed nor written.
    text = image.strip().encode(errors="replace").decode() if isinstance(image, str) else ""
    return Task(_short(text) if text else f"task {number}", text, frozenset(labels))


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "...")
