"""Whether a reply is right, not only whether there is one. Knows nothing of how it came.

A checker takes the reply's JSON object and the request's bytes, and returns what is wrong, or "". Its messages hold no
values of the reply: Locust groups failures by their text.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from handlers.accept import JPEG, JSON, PNG
from marserve.client import read_reply
from marserve.summary import IMAGES

Checker = Callable[[Mapping[str, Any], bytes], str]

TOLERANCE = 1e-3  # of the sum of probabilities, which are rounded in the reply
MIN_PER_GROUP = 2
DEFAULT_COUNT = 6  # images of a challenge that does not say how many
_MAX_REASON = 200
_BESIDE_ANSWER = ("confidence", "predicted_class", "is_valid", "probabilities", "message")
_ENDS = {JPEG: (b"\xff\xd8\xff", b"\xff\xd9"), PNG: (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82")}


def check_reply(kind: str, request: bytes, content: bytes, status: int, media_type: str = JSON) -> str:
    """What is wrong with a reply over REST, or over gRPC (as status 200), or ""."""
    try:
        answer = read_reply(content, status, media_type)
    except RecursionError:
        return "the reply is nested too deeply"
    if answer.error:
        return answer.error[:_MAX_REASON]
    if answer.media_type != JSON:
        return "" if kind in _IMAGES and _is_image(content, media_type) else "the reply is no JSON, and no whole image"
    predictions = answer.body.get("predictions")
    if not isinstance(predictions, list):
        return _check_one(kind, answer.body, request)
    # The request had several instances: every one of them counts.
    return next((reason for item in predictions if (reason := _check_one(kind, item, b""))), "")


def any_object(body: Mapping[str, Any], request: bytes) -> str:  # noqa: ARG001
    return ""  # check_reply has seen that it is an object without an error


def image_classification(body: Mapping[str, Any], request: bytes) -> str:  # noqa: ARG001
    """`{"label", "confidence", "probabilities"}` that agree with each other."""
    label, confidence, probabilities = (body.get(name) for name in ("label", "confidence", "probabilities"))
    if not isinstance(probabilities, dict) or not probabilities:
        return "no 'probabilities'"
    if not all(map(_is_probability, probabilities.values())):
        return "a probability is no number from 0 to 1"
    if abs(math.fsum(probabilities.values()) - 1) > TOLERANCE:
        return "the probabilities do not sum to 1"
    if not isinstance(label, str) or label not in probabilities:
        return "'label' is not among the probabilities"
    if confidence != max(probabilities.values()) or isinstance(confidence, bool):
        return "'confidence' is not the largest probability"
    if probabilities[label] != confidence:
        return "'label' is not the most probable one"
    return ""


def ensemble_classification(body: Mapping[str, Any], request: bytes) -> str:  # noqa: ARG001
    """`{"label", "confidence", "top", "agreement"}` that agree with each other."""
    top, agreement = body.get("top"), body.get("agreement")
    if not isinstance(top, list) or not top or not all(isinstance(entry, dict) for entry in top):
        return "no list of labels in 'top'"
    probabilities = [entry.get("probability") for entry in top]
    if not all(map(_is_probability, probabilities)) or math.fsum(probabilities) > 1 + TOLERANCE:
        return "the probabilities in 'top' are none"
    if probabilities != sorted(probabilities, reverse=True):
        return "'top' does not begin with the most probable label"
    if not isinstance(body.get("label"), str) or body["label"] != top[0].get("label"):
        return "'label' is not the first of 'top'"
    if body.get("confidence") != probabilities[0]:
        return "'confidence' is not the first probability of 'top'"
    return "" if _is_probability(agreement) else "'agreement' is no number from 0 to 1"


def digit_recognition(body: Mapping[str, Any], request: bytes) -> str:
    """`{"digit", "confidence", "probabilities"}` that agree with each other."""
    digit = body.get("digit")
    if type(digit) is not int:
        return "'digit' is no whole number"
    return image_classification({**body, "label": str(digit)}, request).replace("'label'", "'digit'")


def yes_no(body: Mapping[str, Any], request: bytes) -> str:
    """`{"has_...", "confidence", "predicted_class", "probabilities", "message"}` that agree with each other, with or
    without "is_valid"; the name of the first is the spec's."""
    label = body.get("predicted_class")
    if reason := image_classification({**body, "label": label}, request):
        return reason.replace("'label'", "'predicted_class'")
    if not isinstance(body.get("message"), str) or not body["message"]:
        return "no 'message'"
    answers = [value for name, value in body.items() if name not in _BESIDE_ANSWER]
    if len(answers) != 1 or not (answers[0] is None or isinstance(answers[0], bool)):
        return "not one answer that is true, false or null"
    if "is_valid" in body and not isinstance(body["is_valid"], bool):
        return "'is_valid' is neither true nor false"
    if body.get("is_valid") and answers[0] is None:
        return "'is_valid' of no answer"
    return ""


def image_embedding(body: Mapping[str, Any], request: bytes) -> str:  # noqa: ARG001
    """`{"embedding", "dim"}`: that many numbers, of length 1 together."""
    embedding, dim = body.get("embedding"), body.get("dim")
    if not isinstance(embedding, list) or not all(type(number) in (int, float) for number in embedding):
        return "no list of numbers in 'embedding'"
    if dim != len(embedding) or isinstance(dim, bool):
        return "'dim' is not how many numbers there are"
    if not abs(math.hypot(*embedding) - 1) <= TOLERANCE:
        return "the length of the embedding is not 1"
    return ""


def face_mosaic(body: Mapping[str, Any], request: bytes) -> str:  # noqa: ARG001
    """`{"faces", "media_type", "image"}`: at least one box, and the picture, where there is one."""
    faces = body.get("faces")
    if not isinstance(faces, list) or not faces or not all(map(_is_box, faces)):
        return "no list of boxes in 'faces'"
    if "image" in body and not _is_jpeg(body["image"]):
        return "'image' is no JPEG in base64"
    return ""


def random_images(body: Mapping[str, Any], request: bytes) -> str:
    """As many JPEG images as were asked for, of two groups with at least two each."""
    images = body.get("images")
    if not isinstance(images, list) or not all(isinstance(image, dict) for image in images):
        return "no list of 'images'"
    if len(images) != _asked_for(request):
        return "not as many images as were asked for"
    if not all(_is_jpeg(image.get("data")) for image in images):
        return "an image is no JPEG in base64"
    groups = Counter(str(image.get("group")) for image in images)
    if len(groups) != 2 or min(groups.values()) < MIN_PER_GROUP:
        return f"the images are not of two groups with at least {MIN_PER_GROUP} each"
    return ""


def trajectory_classification(body: Mapping[str, Any], request: bytes) -> str:  # noqa: ARG001
    """`{"label", "score", "threshold"}` that agree with each other."""
    label, score, threshold = (body.get(name) for name in ("label", "score", "threshold"))
    if not _is_probability(score) or not _is_probability(threshold):
        return "'score' or 'threshold' is no number from 0 to 1"
    if label != ("human" if float(str(score)) >= float(str(threshold)) else "bot"):
        return "'label' does not follow from 'score'"
    return ""


def trajectory_anomaly(body: Mapping[str, Any], request: bytes) -> str:  # noqa: ARG001
    """`{"anomaly", "flagged", "threshold"}` that agree with each other."""
    anomaly, flagged, threshold = (body.get(name) for name in ("anomaly", "flagged", "threshold"))
    if not _is_probability(anomaly) or not _is_probability(threshold):
        return "'anomaly' or 'threshold' is no number from 0 to 1"
    if flagged is not (float(str(anomaly)) > float(str(threshold))):
        return "'flagged' does not follow from 'anomaly'"
    return ""


# By the task that a model's spec names; anything else is checked as `any`.
CHECKERS: Mapping[str, Checker] = {
    "any": any_object,
    "digit_recognition": digit_recognition,
    "ensemble_classification": ensemble_classification,
    "face_mosaic": face_mosaic,
    "image_classification": image_classification,
    "image_embedding": image_embedding,
    "random_images": random_images,
    "tabular_classification": image_classification,  # the same reply
    "trajectory_anomaly": trajectory_anomaly,
    "trajectory_classification": trajectory_classification,
    "yes_no": yes_no,
}

_IMAGES = ("any", *IMAGES)  # whose replies may be images


def _check_one(kind: str, body: Any, request: bytes) -> str:
    if not isinstance(body, dict):
        return "a prediction is no JSON object"
    if "error" in body:
        return f"error in the reply: {body['error']}"[:_MAX_REASON]
    return CHECKERS[kind](body, request)


def _is_probability(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _is_box(box: Any) -> bool:
    whole = isinstance(box, list) and len(box) == 4 and all(type(number) is int and number >= 0 for number in box)
    return whole and min(box[2:]) > 0


def _is_jpeg(text: Any) -> bool:
    try:
        return _is_image(base64.b64decode(text, validate=True), JPEG)
    except (TypeError, ValueError, binascii.Error):
        return False


def _is_image(data: bytes, media_type: str) -> bool:
    """By its first and its last bytes."""
    first, last = _ENDS.get(media_type, (b"", b""))
    return bool(first) and data.startswith(first) and data.endswith(last)


def _asked_for(request: bytes) -> int:
    try:
        return int(json.loads(request)["count"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return DEFAULT_COUNT
