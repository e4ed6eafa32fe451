"""What a report says, and that its pictures are whole."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from marserve.errors import MarserveError
from marserve.settings import addresses
from marserve.shadow.comparison import Comparison
from marserve.shadow.outcome import Options, Outcome, Traffic
from marserve.shadow.replay import TIMED_OUT
from marserve.shadow.report import write
from tests.marserve.shadow.test_comparison import answered, asked

OPTIONS = Options("captcha|image", "2.0", addresses({}, 8080), 600)


def compared() -> Comparison:
    comparison, chance = Comparison(), random.Random(1)
    for number in range(500):
        old = chance.random()
        new = min(1.0, max(0.0, old + chance.gauss(0, 0.02)))
        bodies = [
            {
                "label": "ani|mal" if p > 0.5 else "object",
                "confidence": p,
                "probabilities": {"ani|mal": p, "object": 1 - p},
            }
            for p in (old, new)
        ]
        answer = answered(bodies[1])._replace(seconds=0.004 * chance.lognormvariate(0, 0.5))
        copy = replace(asked(bodies[0], request_id=f"r{number}"), seconds=0.002 * chance.lognormvariate(0, 0.3))
        comparison.add(copy, answer if number % 100 else answered(b"", TIMED_OUT))
    return comparison


def report(comparison: Comparison, folder: Path, options: Options = OPTIONS, seen: int = 1000) -> Outcome:
    traffic = Traffic(600.4, seen, seen and 510)
    outcome = Outcome.of(options, "1.0", traffic, comparison.compared, comparison.disagreements, "gave it back", folder)
    write(outcome, options, comparison, (0.0021, None))
    return outcome


def test_a_report_has_the_verdict_first_and_every_figure(tmp_path: Path) -> None:
    comparison = compared()
    outcome = report(comparison, tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines[0] == "# captcha\\|image: 2.0 in the shadow of 1.0"
    assert lines[2].startswith(
        f"**not agreed**: 2.0 differs from 1.0 of captcha\\|image: {outcome.disagreements} of 500"
    )
    assert "600 s, 1,000 requests, 510 of them to be compared (`--sample 100%`), 10 of these not" in lines[4]
    assert "| 200 | timed out | 5 |" in lines
    assert sum(line.startswith("| ani\\|mal | object |") for line in lines) == 1
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["disagreement"] == outcome.disagreement == outcome.disagreements / 500
    assert found["disagreement_at_most"] > found["disagreement"]
    assert sum(found["verdicts"].values()) == sum(count for *_, count in found["statuses"]) == 500
    assert found["drift"]["probabilities.object"]["count"] == 495
    assert found["processor_seconds_per_request"] == {"old": 0.0021, "new": None}


def test_pictures_are_svg_that_needs_nothing_else(tmp_path: Path) -> None:
    report(compared(), tmp_path)
    page = (tmp_path / "report.md").read_text()
    for name in ("latency.svg", "drift.svg"):
        assert f"({name})" in page
        picture = ElementTree.parse(tmp_path / name).getroot()  # noqa: S314
        assert not [one for one in picture.iter() if any("href" in key for key in one.attrib)]
        assert not [one for one in picture.iter() if one.tag.endswith("script")]


@pytest.mark.parametrize(
    ("comparison", "seen", "why"),
    [(Comparison(), 0, "no request came"), (Comparison(), 1000, "no answer came")],
)
def test_nothing_compared_is_no_agreement(tmp_path: Path, comparison: Comparison, seen: int, why: str) -> None:
    outcome = report(comparison, tmp_path, seen=seen)
    assert (outcome.agreed, outcome.disagreement) == (False, 1.0)
    assert outcome.verdict.endswith(why)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_the_limit_decides(tmp_path: Path) -> None:
    share = compared().disagreements / 500
    assert report(compared(), tmp_path, replace(OPTIONS, max_disagreement=share)).agreed
    assert not report(compared(), tmp_path, replace(OPTIONS, max_disagreement=share - 0.001)).agreed


def test_a_report_that_cannot_be_written_still_tells_the_verdict(tmp_path: Path) -> None:
    with pytest.raises(MarserveError, match=r"2\.0 differs from 1\.0 .*; cannot write its report to"):
        report(compared(), tmp_path / "gone")
