"""One image -> the answer to the question that the spec asks of it: yes, no, or neither."""

from __future__ import annotations

from typing import Any

from handlers.classified import classified
from handlers.errors import SpecError
from handlers.image_input import ImageInput, read_input
from handlers.options import share
from handlers.payload import Instance, refuse_unknown
from handlers.pool import Pool
from handlers.spec import HandlerSpec, QuestionSpec
from handlers.tasks import Item, Row, Task

THRESHOLD = "confidence_threshold"
_CONTENT = ("data", "b64")


class YesNo(Task):
    """Takes an image file, or `{"data": "<base64>"}`; where the question has a threshold, a request may set its own."""

    def __init__(self, labels: tuple[str, ...], question: QuestionSpec, source: ImageInput) -> None:
        self._labels = labels
        self._question = question
        self._input = source
        if question.confidence_threshold is not None:
            self.options = {THRESHOLD: share}

    def decode(self, instance: Instance) -> Item:
        """Pixels (side, side, 3), uint8 RGB; its `extra` has the request's own threshold."""
        if isinstance(instance, bytes):
            return Item(self._input.pixels(instance))
        refuse_unknown(instance.keys() - {*_CONTENT, *self.options}, (_CONTENT[0], *self.options))
        return Item(self._input.pixels(instance), {name: instance[name] for name in self.options if name in instance})

    def encode(self, item: Item, row: Row) -> dict[str, Any]:
        best, rest = classified(self._labels, row["probabilities"])
        label, question = self._labels[best], self._question
        answer, message = question.answers[label], question.messages[label]
        valid = {}
        threshold = item.extra.get(THRESHOLD, question.confidence_threshold)
        if threshold is not None:
            sure = rest["confidence"] >= threshold
            valid = {"is_valid": sure and answer is not None}
            message = message if sure else question.unsure
        return {
            question.field: answer,
            "confidence": rest["confidence"],
            "predicted_class": label,
            **valid,
            "probabilities": rest["probabilities"],
            "message": message,
        }


def build(spec: HandlerSpec, pool: Pool | None) -> YesNo:  # noqa: ARG001
    source = read_input(spec, "probabilities")
    if spec.question is None:
        raise SpecError(f"{spec.task} needs a handler.question")
    if len(set(spec.labels)) < len(spec.labels) or set(spec.labels) != set(spec.question.answers):
        raise SpecError(
            f"handler.question.answers must have every one of handler.labels: {', '.join(spec.labels)}, "
            f"not {', '.join(spec.question.answers)}"
        )
    return YesNo(spec.labels, spec.question, source)
