"""Errors as answers: `{"error": {"message", "type", "param", "code", "hint"}}`, as in OpenAI's API.

No answer contains a path, a key, an address of a member or a traceback: what a member's failure said stays in the log.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from colm_vl.errors import (
    BackendError,
    BadReply,
    ColmError,
    ConfigError,
    ContextTooLong,
    ImageError,
    InputError,
    NoAnswer,
    RateLimited,
    Refused,
    TimedOut,
    Unavailable,
    Unsupported,
)
from colm_vl.service.pictures import MissingPicture, PictureTooLarge
from colm_vl.service.streaming import ClientGone
from colm_vl.service.wire import Json

logger = logging.getLogger(__name__)

NO_RETRY: Final = MappingProxyType({"x-should-retry": "false"})
"""Read by the openai SDK, which would otherwise run the whole team again after a 5xx."""

_TYPES: Final = MappingProxyType(
    {401: Refused.kind, 404: "not_found", 413: PictureTooLarge.kind, 429: RateLimited.kind, 503: Unavailable.kind}
)
_STATUSES: Final = (  # the first class of which an exception is an instance
    (MissingPicture, 409),
    (PictureTooLarge, 413),
    ((InputError, ImageError, ConfigError, ContextTooLong, Unsupported), 400),
    (RateLimited, 429),
    (TimedOut, 504),
    (Unavailable, 503),
    ((BadReply, BackendError), 502),
)
_OF_THE_REQUEST: Final = MappingProxyType(
    {
        Unsupported.kind: Unsupported.kind,
        ContextTooLong.kind: "context_length_exceeded",
        InputError.kind: InputError.kind,
    }
)
"""Failures for which a request is to blame: kinds, and the codes that are told."""
_CLIENT_GONE: Final = 499
"""Nobody reads it."""


class ErrorDetail(BaseModel):
    message: str
    type: str = Field(description="kind of the error, such as input or timed_out")
    param: str | None = Field(default=None, description="the field of the request that is wrong")
    code: str | None = None
    hint: str = Field(default="", description="what to do")


class ErrorBody(BaseModel):
    error: ErrorDetail


class ApiError(HTTPException):
    """An answer with an error status. `kind` is the error's type, by default that of the status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        hint: str = "",
        kind: str = "",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        kind = kind or _TYPES.get(status) or (InputError.kind if status < 500 else ColmError.kind)
        self.body = ErrorBody(error=ErrorDetail(message=message, type=kind, param=param, code=code, hint=hint))

    def response(self) -> JSONResponse:
        return Json(self.body.model_dump(), self.status_code, self.headers)


def refused(message: str, *, param: str | None = None, hint: str = "", code: str | None = None) -> ApiError:
    """The request cannot succeed as it is: 400."""
    return ApiError(400, message, hint=hint, param=param, code=code)


def as_api_error(error: Exception) -> ApiError:
    """What a caller is told of an exception. Errors of members must have been put into safe words before."""
    if isinstance(error, ApiError):
        return error
    if not isinstance(error, ColmError):
        logger.error("a request failed because of a bug", exc_info=error)
        return ApiError(500, "internal error", code="internal_error", headers=NO_RETRY)
    if isinstance(error, NoAnswer) and error.trace is not None:
        return no_answer([(failure.member or "", failure.kind) for failure in error.trace.failures])
    status = next((status for kinds, status in _STATUSES if isinstance(error, kinds)), None)
    if status is None:
        logger.error("a request failed", exc_info=error)
        return ApiError(500, "internal error", kind=error.kind, headers=NO_RETRY)
    wait = error.retry_after if isinstance(error, RateLimited) else None
    if isinstance(error, RateLimited):
        status = error.status or status
    headers = {} if wait is None else {"Retry-After": str(math.ceil(wait))}
    return ApiError(status, str(error), hint=error.hint, kind=_kind(error), code=error.kind, headers=headers)


def no_answer(failures: Sequence[tuple[str, str]]) -> ApiError:
    """No member gave an answer. `failures` are the members' names and the kinds of their failures."""
    told = "; ".join(dict.fromkeys(f"{member}: {kind}" for member, kind in failures))
    kinds = {kind for _, kind in failures}
    if kinds and kinds <= _OF_THE_REQUEST.keys():
        return refused(
            f"no answer: {told}", hint="send less text, or fewer or smaller pictures", code=_OF_THE_REQUEST[min(kinds)]
        )
    return ApiError(502, f"no answer: {told or 'no reply could be read'}", code="no_answer", headers=NO_RETRY)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for the OpenAPI description. Those of every route under /v1 are included."""
    return {status: {"model": ErrorBody} for status in sorted({400, 401, *statuses})}


def _kind(error: ColmError) -> str:
    """`Refusal` and others are known to clients by the class that they are kinds of."""
    if isinstance(error, RateLimited):
        return RateLimited.kind
    return InputError.kind if isinstance(error, MissingPicture) else error.kind


def describe(app: FastAPI) -> None:
    """Remove FastAPI's own answer to invalid requests, which `add_handlers` replaces, from the OpenAPI description."""
    description = app.openapi()
    for path in description["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        description["components"]["schemas"].pop(name, None)


def add_handlers(app: FastAPI) -> None:
    async def told(request: Request, error: Exception) -> JSONResponse:
        return as_api_error(error).response()

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        return _invalid(error).response()

    async def http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return ApiError(error.status_code, str(error.detail), headers=error.headers).response()

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=_CLIENT_GONE)

    app.add_exception_handler(ClientGone, gone)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http_error)
    for kind in (ApiError, ColmError, Exception):
        app.add_exception_handler(kind, told)


def _invalid(error: RequestValidationError) -> ApiError:
    """One problem alone, without the value, which may be a picture: where a field can be of several types, that of the
    type which fits best."""
    first = max(error.errors(), key=lambda problem: len(problem["loc"]))
    steps = [str(step) for step in first["loc"] if step != "body" and not re.search(r"\W", str(step))]
    where = ".".join(steps) or None
    if first["type"] == "json_invalid":
        return refused("the body is not valid JSON", code="invalid_json")
    return refused(f"{where or 'body'}: {first['msg']}", param=where, code=first["type"])
