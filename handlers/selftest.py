"""Requests and the answers to them that an archive has recorded at export: asked again wherever it is loaded.

selftest.json:

    {"tolerance": 0.02, "cases": [{"file": "selftest/1.jpg", "answer": {"label": "animal", "confidence": 0.9}}]}

`json` in the place of `file` is the request itself; `form` in the place of `answer` is for models that draw lots.
`answers` says how an answer is held against either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from handlers.accept import JSON
from handlers.answers import difference, mismatch
from handlers.archive import SELFTEST
from handlers.errors import SpecError
from handlers.pipeline import Pipeline, Wish


def replay(folder: Path, pipeline: Pipeline) -> int:
    """Ask every case of an unpacked archive; how many there are. An archive without selftest.json has none.

    Raises SpecError for the first answer that is not the recorded one.
    """
    try:
        recorded = json.loads((folder / SELFTEST).read_bytes())
        tolerance = recorded["tolerance"]
        cases = [(case, _body(folder, case)) for case in recorded["cases"]]
        for case, body in cases:
            answer = ask(pipeline, body)
            wrong = mismatch(case["form"], answer) if "form" in case else difference(case["answer"], answer, tolerance)
            if wrong:
                raise SpecError(f"the self-test fails: the answer to {case.get('file', 'its request')} has {wrong}")
    except FileNotFoundError as error:
        if Path(error.filename) == folder / SELFTEST:
            return 0
        raise SpecError(f"{SELFTEST} names a file that the archive lacks: {error.filename}") from None
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise SpecError(f"{SELFTEST} is damaged: {error!r}") from None
    return len(cases)


def ask(pipeline: Pipeline, body: bytes) -> Any:
    """The answer to one request, on the way that those of clients go. Raises SpecError for a refusal."""
    # One at a time: of a network that scales by a batch's range, an answer rests on what else is in the batch.
    (reply,) = pipeline([{"body": body}], [Wish(accept=JSON)])
    answer = json.loads(reply.body)
    if reply.status != 200:
        raise SpecError(f"the self-test fails: {reply.status.value} {answer['error']['message']}")
    return answer


def _body(folder: Path, case: Mapping[str, Any]) -> bytes:
    return json.dumps(case["json"]).encode() if "json" in case else (folder / case["file"]).read_bytes()
