"""The guidance service over HTTP. Its requests and replies are those of `colm_vl.guidance_protocol`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse

from colm_vl.errors import ColmError, RateLimited
from colm_vl.guidance_protocol import (
    PICTURE_TYPES,
    ErrorBody,
    GuidanceReply,
    GuidanceRequest,
    SelectionReply,
    SelectionRequest,
    StreamFailed,
    Task,
    VerdictReply,
    VerdictRequest,
)
from colm_vl.service.guidance import Consultation, GuidanceService
from colm_vl.service.pictures import PictureTooLarge
from colm_vl.service.queue import Caller
from colm_vl.service.streaming import event_stream, while_connected

_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
        "description": "The reply. With `stream`, server-sent events: `queued`, `started`, `delta`, and last `reply` "
        "or `error`; each is a JSON object with its `type`.",
    }
}
_PICTURE_BODY = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES},
    }
}
_Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file, in hexadecimal")]


def router(service: GuidanceService, caller: Callable[..., Any]) -> APIRouter:
    """`caller` is a dependency that identifies the caller of a request. Raises errors of `colm_vl`, which the
    application turns into responses."""
    routes = APIRouter(prefix="/v1", tags=["guidance"])
    who = Depends(caller)

    async def answer(request: Request, asks: Caller, task: Task) -> Response:
        consultation = await service.prepare(asks, task)
        if task.stream:
            return event_stream(_told(consultation))
        reply = await while_connected(request, consultation.reply())
        return JSONResponse(reply.model_dump(mode="json"))

    @routes.post("/selection", response_model=SelectionReply, responses=_STREAM)
    async def selection(request: Request, body: SelectionRequest, asks: Caller = who) -> Response:
        """Select the clients that take part in answering a question."""
        return await answer(request, asks, body)

    @routes.post("/guidance", response_model=GuidanceReply, responses=_STREAM)
    async def guidance(request: Request, body: GuidanceRequest, asks: Caller = who) -> Response:
        """Write guidance from the question, its pictures, and the clients' drafts."""
        return await answer(request, asks, body)

    @routes.post("/verdict", response_model=VerdictReply, responses=_STREAM)
    async def verdict(request: Request, body: VerdictRequest, asks: Caller = who) -> Response:
        """Answer the question from its pictures and the drafts, if there are any."""
        return await answer(request, asks, body)

    @routes.head("/pictures/{sha256}", status_code=204, responses={404: {"description": "It has to be uploaded."}})
    async def has_picture(sha256: _Sha256, asks: Caller = who) -> Response:
        """Whether this key has uploaded the picture, and it is still kept."""
        return Response(status_code=204 if service.pictures.has(asks.name, sha256) else 404)

    @routes.put("/pictures/{sha256}", status_code=204, openapi_extra=_PICTURE_BODY)
    async def put_picture(request: Request, sha256: _Sha256, asks: Caller = who) -> Response:
        """Upload a picture for this key. Other keys do not see it. It is dropped when it was not used for a while."""
        await service.pictures.put(asks.name, sha256, await _body(request, service.pictures.limits.file))
        return Response(status_code=204)

    return routes


async def _body(request: Request, most: int) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > most:
            raise PictureTooLarge(
                f"the picture has more than {most:,} bytes", hint="reduce it first, for instance with max_pixels"
            )
        pieces.append(piece)
    return b"".join(pieces)


async def _told(consultation: Consultation) -> AsyncGenerator[str, None]:
    try:
        async with aclosing(consultation.events()) as events:
            async for event in events:
                yield event.model_dump_json()
    except ColmError as error:
        wait = error.retry_after if isinstance(error, RateLimited) else None
        body = ErrorBody(message=str(error), type=error.kind, hint=error.hint, retry_after=wait)
        yield StreamFailed(error=body).model_dump_json()
