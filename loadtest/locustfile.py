"""What Locust loads: the users and the shape of the plan that `python -m loadtest` wrote, and a summary at the end."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from locust import LoadTestShape, events
from locust import stats as locust_stats

from loadtest import users
from loadtest.plan import read_plan
from loadtest.report import Row
from loadtest.shapes import stage_at

FOLDER = Path(os.environ["LOADTEST_FOLDER"])
PLAN = read_plan(FOLDER / "plan.json")

LoadUser = users.user_class(PLAN)


class PlannedShape(LoadTestShape):  # type: ignore[misc]
    def tick(self) -> tuple[int, float] | None:
        stage = stage_at(PLAN.stages, self.get_run_time())
        return (stage.users, stage.spawn_rate) if stage else None


def _row(entry: Any) -> Row:
    p50, p95, p99 = (float(entry.get_response_time_percentile(share) or 0) for share in (0.5, 0.95, 0.99))
    return Row(entry.name, entry.num_requests, entry.num_failures, float(entry.total_rps), p50, p95, p99)


def _let_csv_catch_up(**_: Any) -> None:
    """Locust rewrites its CSV files once a second, and not at the end: the last second would be missing."""
    time.sleep(locust_stats.CSV_STATS_INTERVAL_SEC + 0.2)  # of gevent: the writer runs meanwhile


def _summarise(environment: Any, **_: Any) -> None:
    stats = environment.stats
    errors = sorted(stats.errors.values(), key=lambda error: -error.occurrences)
    summary = {
        "rows": [_row(entry).as_dict() for entry in sorted(stats.entries.values(), key=lambda entry: entry.name)],
        "reasons": [[error.occurrences, error.name, str(error.error)] for error in errors],
        "saturated": bool(environment.runner.cpu_warning_emitted),
    }
    (FOLDER / "summary.json").write_text(json.dumps(summary))
    if environment.runner.exceptions:  # a user of ours broke, which is no finding about the server
        environment.process_exit_code = 3


events.test_stop.add_listener(_let_csv_catch_up)
events.quitting.add_listener(_summarise)
