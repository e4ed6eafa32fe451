"""`python -m loadtest MODEL`: put load on a running server, check its replies, and hold the figures against limits.

Exit code 0: within the limits; 1: a limit is broken; 2: the test could not be run.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from loadtest.checkers import CHECKERS
from loadtest.errors import LoadTestError, exit_code
from loadtest.plan import Plan, build_targets
from loadtest.report import Limits, broken_limits, format_summary
from loadtest.run import check_server, run_locust
from loadtest.shapes import MAX_DURATION, MAX_USERS, length, load_shape, peak


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise LoadTestError(f"{message} (`{self.prog} --help` lists the arguments)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m loadtest", description="Put load on models of a running server.")
    parser.add_argument("models", nargs="+", metavar="MODEL", help="several share the users at random")
    parser.add_argument("--host", type=_url, default="http://127.0.0.1:8080", help="REST address; default: %(default)s")
    parser.add_argument(
        "--grpc", type=_address, nargs="?", const="127.0.0.1:7070", default=None, metavar="HOST:PORT",
        help="over gRPC, at this address or %(const)s, instead of REST",
    )  # fmt: skip
    parser.add_argument("--files", type=Path, nargs="+", default=[], help="what to send, instead of the example")
    parser.add_argument("--archive", type=Path, nargs="+", default=[], help="archives whose example is sent")
    parser.add_argument("--model-store", type=Path, default=Path("model_store"), help="where the other archives are")
    parser.add_argument(
        "--check", choices=sorted(CHECKERS), help="how replies are checked; default: by the model's task"
    )
    parser.add_argument("--shape", default="steady", help="steady, ramp, spike or a YAML file; default: %(default)s")
    parser.add_argument("--users", type=_users, help="scale the shape to this many at its peak")
    parser.add_argument("--duration", type=_seconds, help="scale the shape to this many seconds")
    parser.add_argument("--max-p99", type=_milliseconds, metavar="MS", help="the slowest 99th percentile allowed")
    parser.add_argument("--max-error-rate", type=_share, default=0.0, metavar="RATE", help="0 to 1; default: 0")
    parser.add_argument("--output", type=Path, default=Path("reports/loadtest"), help="folder; default: %(default)s")
    return parser


def loadtest(args: argparse.Namespace) -> int:
    """One run: 0, or 1 where a limit is broken. Raises LoadTestError, MarserveError."""
    stages = load_shape(args.shape, args.users, args.duration)
    targets = build_targets(args.models, args.archive, args.model_store, args.files, args.check)
    plan = Plan(args.host, args.grpc or "", tuple(stages), targets)
    check_server(plan)
    print(f"{plan.server}, shape {args.shape}: {length(stages):g} s, at most {peak(stages)} users", flush=True)
    for target in targets:
        print(f"{target.model}: replies are checked as {target.kind}", flush=True)
    summary = run_locust(plan, args.output)
    print(f"\n{format_summary(summary)}\n\nreport: {args.output / 'report.html'}", flush=True)
    broken = broken_limits(summary, Limits(args.max_p99, args.max_error_rate), args.models)
    for line in broken:
        print(f"over the limit: {line}", file=sys.stderr)
    return 1 if broken else 0


def main(argv: Sequence[str] | None = None) -> int:
    return exit_code(lambda: loadtest(_parser().parse_args(argv)))


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good or text != text.strip() or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"expected an address like http://127.0.0.1:8080, not {text!r}")
    return text.rstrip("/")


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or "/" in host or not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        raise argparse.ArgumentTypeError(f"expected an address like 127.0.0.1:7070, not {text!r}")
    return text


def _users(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MAX_USERS):
        raise argparse.ArgumentTypeError(f"expected a whole number from 1 to {MAX_USERS}, not {text!r}")
    return int(text)


def _seconds(text: str) -> float:
    return _number(text, 1, MAX_DURATION, "seconds")


def _milliseconds(text: str) -> float:
    return _number(text, 0, math.inf, "milliseconds")


def _share(text: str) -> float:
    return _number(text, 0, 1, "a share")


def _number(text: str, low: float, high: float, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and low <= value <= high):
        limit = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of at least {low:g}"
        raise argparse.ArgumentTypeError(f"expected {what} {limit}, not {text!r}")
    return value


if __name__ == "__main__":
    sys.exit(main())
