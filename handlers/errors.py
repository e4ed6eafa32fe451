"""What a request can do wrong. An error carries its HTTP status and a stable code; internals never reach a client."""

from __future__ import annotations

from http import HTTPStatus


class RequestError(Exception):
    """One item of a batch cannot be answered.

    `status` is the HTTP status of that item alone; `code` is a stable identifier that clients may compare; the message
    says what was wrong and what to do.
    """

    status = HTTPStatus.BAD_REQUEST
    code = "bad_request"

    @property
    def message(self) -> str:
        return str(self)

    def body(self) -> dict[str, dict[str, str]]:
        return {"error": {"code": self.code, "message": self.message}}


class UndecodableError(RequestError):
    """The bytes are not what they claim to be (400)."""

    code = "undecodable"


class NotAcceptableError(RequestError):
    """None of the types that the request's `Accept` header names is on offer (406)."""

    status = HTTPStatus.NOT_ACCEPTABLE
    code = "not_acceptable"


class TooLargeError(RequestError):
    """More bytes, pixels or items than the limits allow (413)."""

    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    code = "too_large"


class UnsupportedTypeError(RequestError):
    """A format that this model does not read (415)."""

    status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    code = "unsupported_type"


class InvalidContentError(RequestError):
    """Well-formed, but not what this model takes (422)."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "invalid_content"


class NoFaceError(RequestError):
    """A good picture, and no face in it (422)."""

    status = HTTPStatus.UNPROCESSABLE_ENTITY
    code = "no_face"


class InternalError(RequestError):
    """A fault of ours. The log has the details; the client is told only that (500)."""

    status = HTTPStatus.INTERNAL_SERVER_ERROR
    code = "internal"


class SpecError(Exception):
    """The archive or its spec is wrong: the model must not be served. The message says what to fix."""
