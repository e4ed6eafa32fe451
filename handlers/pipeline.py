"""A batch of requests -> one reply each. No TorchServe in here: tests and offline tools call it directly.

One item's failure costs that item alone. What one instance did wrong is its own reply, and the rest of the batch runs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from handlers import accept, payload
from handlers.accept import JSON
from handlers.errors import InvalidContentError, RequestError, SpecError
from handlers.guard import UNLIMITED, Budget, Unlimited, guard, too_long
from handlers.metrics import Stages
from handlers.network import Network
from handlers.options import Options, check
from handlers.pool import Pool
from handlers.reply import Answer, Reply, sendable, to_reply
from handlers.spec import HandlerSpec
from handlers.tasks import Item, Row, Task, build_task

# A hundred crafted instances could keep a worker from everyone else's requests until TorchServe kills it: all requests
# of a batch together must stay below the response time-out.
REQUEST_SECONDS = 0.5  # for decoding, and again for gathering and for encoding
GATHERED = 32  # items that a task gathers at once; between two such chunks the budgets are looked at


class Wish(NamedTuple):  # as Item and Payload: a tuple is made in half the time of a frozen dataclass
    """What a request asks for beside its payload; `accept` is the header of that name."""

    explain: bool = False
    accept: str | None = None


_NO_WISH = Wish()


class Pipeline:
    """One loaded model."""

    def __init__(self, task: Task, network: Network | None, decode_threads: int = 1) -> None:
        self._task = task
        self.network = network
        # Both give results in the order of the calls; a pool's threads work ahead of whoever takes them.
        many = decode_threads > 1
        self._map: Callable[..., Iterator[Item | RequestError]]
        self._map = ThreadPoolExecutor(decode_threads, "decode").map if many else map
        self._negotiates = task.media_types != (JSON,)
        self._gathers = type(task).gather is not Task.gather
        # What is gathered first needs all items, and where no network runs there is nothing to overlap with.
        self._overlaps = many and network is not None and not self._gathers
        self.stages = Stages()

    @classmethod
    def load(cls, folder: Path, spec: HandlerSpec, gpu_id: int | None = None, pool: Path | None = None) -> Pipeline:
        """From an unpacked archive, with a pool for tasks that draw from one. Raises SpecError."""
        inside: dict[str, Any] = {
            name: str(folder / place) for name in ("samples", "cascade") if (place := getattr(spec, name))
        }
        spec = replace(spec, **inside)
        task = build_task(spec, Pool(pool) if pool else None)
        if spec.network is None:
            return cls(task, None, spec.decode_threads)
        network = Network(folder, spec.network, gpu_id)
        zeros = np.zeros(spec.network.input_shape, spec.network.input_type)
        try:
            task.encode(Item(zeros), network.run([zeros])[0])
        except Exception as error:  # as many labels as outputs, say
            raise SpecError(f"{spec.task} cannot read what {spec.network.file} puts out: {error}") from error
        return cls(task, network, spec.decode_threads)

    @property
    def form(self) -> Mapping[str, Any] | None:
        """Of an answer, where the same request is never answered the same."""
        return self._task.form

    @property
    def options(self) -> Options:
        """What a request may set in fields beside its content."""
        return self._task.options

    def __call__(self, rows: Sequence[Mapping[str, Any]], wishes: Sequence[Wish] | None = None) -> list[Reply]:
        """Requests as TorchServe hands them over -> replies, in order. Errors, and lists of answers, are JSON."""
        self.stages.start()
        payloads = [guard(payload.parse, row, self.options) for row in rows]
        instances: list[payload.Instance | RequestError] = []
        budgets: list[Budget | Unlimited] = []
        asked: list[bool] = []
        media_types: list[str] = []
        for index, wish in enumerate(wishes or [_NO_WISH] * len(rows)):
            media_type = JSON
            if self._negotiates:
                payloads[index], media_type = self._negotiate(payloads[index], wish.accept)
            parsed = payloads[index]
            if isinstance(parsed, payload.Payload):
                instances += parsed.instances
                budgets += [Budget(REQUEST_SECONDS) if parsed.many else UNLIMITED] * len(parsed.instances)
                asked += [wish.explain] * len(parsed.instances)
                media_types += [media_type] * len(parsed.instances)
        answers = map(to_reply, self._answer(instances, budgets, asked, media_types))
        replies = []
        for parsed in payloads:
            if isinstance(parsed, RequestError):
                replies.append(to_reply(parsed))
            elif parsed.many:
                bodies = b",".join(next(answers).body for _ in parsed.instances)
                replies.append(sendable(Reply(HTTPStatus.OK, b'{"predictions":[' + bodies + b"]}")))
            else:
                replies.append(sendable(next(answers)))
        self.stages.end("encode")
        return replies

    def answer(self, instances: Sequence[payload.Instance | RequestError]) -> list[Answer]:
        """Decode, gather, run and encode instances, without a limit; an instance that is an error already stays one.

        An answer is explained where its instance says so.
        """
        count = len(instances)
        answers = self._answer(instances, [UNLIMITED] * count, [False] * count, [JSON] * count)
        return [answer for answer in answers if not isinstance(answer, Reply)]  # of JSON, all

    def _answer(
        self,
        instances: Sequence[payload.Instance | RequestError],
        budgets: Sequence[Budget | Unlimited],
        explain: Sequence[bool],
        media_types: Sequence[str],
    ) -> list[Answer | Reply]:
        """`budgets` has the budget of the request that each instance came in. What is not to be JSON is rendered."""
        wishes = list(map(_wish, instances, explain))
        items: list[Item | RequestError] = []
        decoded = self._map(self._decode, (instance for instance, _ in wishes), budgets)
        if self._overlaps:
            rows = iter(self._run(_arrays(_noted(decoded, items))))
        else:
            items += decoded
            if self._gathers:
                self._gather(items, budgets)
            self.stages.end("decode")
            rows = iter(self._run(_arrays(items)))
        self.stages.end("run")
        for budget in set(budgets):
            budget.renew()
        answers: list[Answer | Reply] = []
        for item, budget, (_, explained), media_type in zip(items, budgets, wishes, media_types, strict=True):
            if isinstance(item, RequestError):
                answers.append(item)
                continue
            row = {} if item.array is None else next(rows)
            if isinstance(row, RequestError):
                answers.append(row)
            elif media_type == JSON or explained:  # an explanation has no place in anything else
                encode = self._encode_and_explain if explained else self._task.encode
                answers.append(budget.guard(encode, item, row))
            else:
                answers.append(budget.guard(self._render, item, row, media_type))
        return answers

    def _negotiate(
        self, parsed: payload.Payload | RequestError, header: str | None
    ) -> tuple[payload.Payload | RequestError, str]:
        """The request, or its error, and the type of its reply: of several instances it is always JSON."""
        if isinstance(parsed, RequestError) or parsed.many:
            return parsed, JSON
        chosen = guard(accept.choose, header, self._task.media_types)
        return (chosen, JSON) if isinstance(chosen, RequestError) else (parsed, chosen)

    def _render(self, item: Item, row: Row, media_type: str) -> Reply:
        body, headers = self._task.render(item, row, media_type)
        return Reply(HTTPStatus.OK, body, media_type, tuple(headers.items()))

    def _decode(self, instance: payload.Instance | RequestError, budget: Budget | Unlimited) -> Item | RequestError:
        decoded: Item | RequestError
        decoded = instance if isinstance(instance, RequestError) else budget.guard(self._checked, instance)
        return decoded

    def _checked(self, instance: payload.Instance) -> Item:
        if self.options and not isinstance(instance, bytes):
            instance = check(instance, self.options)
        return self._task.decode(instance)

    def _gather(self, items: list[Item | RequestError], budgets: Sequence[Budget | Unlimited]) -> None:
        """Put what the task gathers in the place of the items; where a chunk fails, each is tried alone."""
        for budget in set(budgets):
            budget.renew()
        decoded = [index for index, item in enumerate(items) if isinstance(item, Item)]
        for start in range(0, len(decoded), GATHERED):
            chunk = []
            for index in decoded[start : start + GATHERED]:
                if budgets[index].spent:
                    items[index] = too_long()
                else:
                    chunk.append(index)
            if not chunk:
                continue
            started = time.perf_counter()
            gathered = guard(self._task.gather, [items[index] for index in chunk])
            share = (time.perf_counter() - started) / len(chunk)
            for index in chunk:
                budgets[index].charge(share)
            if isinstance(gathered, RequestError):
                alone = [gathered]
                if len(chunk) > 1:
                    alone = [budgets[index].guard(self._task.gather, [items[index]]) for index in chunk]
                gathered = [one if isinstance(one, RequestError) else one[0] for one in alone]
            for index, item in zip(chunk, gathered, strict=True):
                items[index] = item

    def _encode_and_explain(self, item: Item, row: Row) -> dict[str, Any]:
        def run(arrays: Sequence[NDArray[Any]]) -> list[Row]:
            rows = []
            for row in self._run(arrays):
                if isinstance(row, RequestError):
                    raise row
                rows.append(row)
            return rows

        return self._task.encode(item, row) | {"explanation": self._task.explain(item, row, run)}

    def _run(self, arrays: Iterable[NDArray[Any]]) -> list[Row | RequestError]:
        """One row per array; where a chunk fails (out of memory, say), each of its items gets the error.

        A chunk's arrays are taken just before it is run.
        """
        if self.network is None:
            return []
        rows: list[Row | RequestError] = []
        left = iter(arrays)
        while chunk := list(islice(left, self.network.chunk)):
            ran = guard(self.network.run, chunk)
            rows += [ran] * len(chunk) if isinstance(ran, RequestError) else ran
        return rows


def _noted(items: Iterable[Item | RequestError], notes: list[Item | RequestError]) -> Iterator[Item | RequestError]:
    for item in items:
        notes.append(item)
        yield item


def _arrays(items: Iterable[Item | RequestError]) -> Iterator[NDArray[Any]]:
    """What the network is to run."""
    return (item.array for item in items if isinstance(item, Item) and item.array is not None)


def _wish(instance: payload.Instance | RequestError, ask: bool) -> tuple[payload.Instance | RequestError, bool]:
    """An instance without its "explain", which is no task's to read, and whether its answer is to be explained."""
    if not isinstance(instance, dict) or "explain" not in instance:
        return instance, ask
    wish = instance["explain"]
    if not isinstance(wish, bool):
        return InvalidContentError("'explain' must be true or false"), False
    return {name: value for name, value in instance.items() if name != "explain"}, ask or wish
