"""The guidance service over HTTP. Its requests and replies are those of `colm_vl.guidance_protocol`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from fastapi import FastAPI, Path, Request, Response
from pydantic import TypeAdapter

from colm_vl.guidance_protocol import (
    PICTURE_TYPES,
    GuidanceReply,
    GuidanceRequest,
    SelectionReply,
    SelectionRequest,
    StreamError,
    StreamEvent,
    StreamFailed,
    Task,
    VerdictReply,
    VerdictRequest,
)
from colm_vl.service import errors
from colm_vl.service.access import Authenticated, CurrentService
from colm_vl.service.context import Service
from colm_vl.service.errors import ApiError, refused
from colm_vl.service.guidance import Consultation
from colm_vl.service.queue import Caller
from colm_vl.service.settings import Limits
from colm_vl.service.streaming import described, event_stream, while_connected
from colm_vl.service.wire import Json, as_json

_TAG = "guidance"
_STREAMED = (
    "`queued`, `started`, `delta`, and last `reply` or `error`; the data of each is a JSON object with its `type`."
)
_PICTURE = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in PICTURE_TYPES},
    }
}
_Sha256 = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the file, in hexadecimal")]


def add_routes(app: FastAPI) -> None:
    for ask, reply in ((_selection, SelectionReply), (_guidance, GuidanceReply), (_verdict, VerdictReply)):
        name = ask.__name__.removeprefix("_")
        app.add_api_route(
            f"/v1/{name}",
            ask,
            methods=["POST"],
            tags=[_TAG],
            operation_id=name,
            response_model=reply,
            responses={
                **described(_STREAMED, _event_data()),
                **errors.responses(404, 409, 413, 429, 502, 503, 504),
            },
        )
    app.add_api_route(
        "/v1/pictures/{sha256}",
        _has_picture,
        methods=["HEAD"],
        tags=[_TAG],
        operation_id="has_picture",
        status_code=204,
        responses={**errors.responses(), 404: {"description": "It has to be uploaded."}},
    )
    app.add_api_route(
        "/v1/pictures/{sha256}",
        _put_picture,
        methods=["PUT"],
        tags=[_TAG],
        operation_id="put_picture",
        status_code=204,
        responses=errors.responses(413),
        openapi_extra=_PICTURE,
    )


def _event_data() -> dict[str, Any]:
    """The JSON schema of the events' data, without references, which would be resolved in the whole description."""
    kinds = TypeAdapter[Any](StreamEvent).json_schema()["$defs"]
    kinds["StreamFailed"]["properties"]["error"] = kinds.pop("StreamError")
    return {"oneOf": list(kinds.values())}


async def _selection(request: Request, body: SelectionRequest, service: CurrentService, who: Authenticated) -> Response:
    """Select the clients that take part in answering a question."""
    return await _answer(request, service, who, body)


async def _guidance(request: Request, body: GuidanceRequest, service: CurrentService, who: Authenticated) -> Response:
    """Write guidance from the question, its pictures, and the clients' drafts."""
    return await _answer(request, service, who, body)


async def _verdict(request: Request, body: VerdictRequest, service: CurrentService, who: Authenticated) -> Response:
    """Answer the question from its pictures and the drafts, if there are any."""
    return await _answer(request, service, who, body)


async def _has_picture(sha256: _Sha256, service: CurrentService, who: Authenticated) -> Response:
    """Whether this key has uploaded the picture, and it is still kept."""
    return Response(status_code=204 if await service.pictures.has(who.name, sha256) else 404)


async def _put_picture(request: Request, sha256: _Sha256, service: CurrentService, who: Authenticated) -> Response:
    """Upload a picture for this key. Other keys do not see it. It is dropped when it was not used for a while."""
    await service.pictures.put(who.name, sha256, await request.body())
    return Response(status_code=204)


async def _answer(request: Request, service: Service, caller: Caller, task: Task) -> Response:
    if service.guidance is None:
        raise ApiError(404, "this service guides nobody: its team has no server", code="no_server")
    _check_sizes(task, service.settings.limits)
    consultation = await service.guidance.prepare(caller, task)
    _check_pixels(consultation, service.settings.limits)
    if task.stream:
        return event_stream(_events(service, consultation), keep_alive=service.settings.keep_alive)
    return Json(await while_connected(request, _reply(service, consultation)))


def _check_sizes(task: Task, limits: Limits) -> None:
    texts = [turn.text for turn in task.history]
    if not isinstance(task, SelectionRequest):
        texts += [draft.text for draft in task.drafts]
    sizes = (
        ("question", len(task.question), limits.question, "characters"),
        ("choices", len(task.choices), limits.choices, "choices"),
        ("choices", max(map(len, task.choices), default=0), limits.choice, "characters in a choice"),
        ("pictures", len(task.pictures), limits.images, "pictures"),
        ("history", len(task.history), limits.turns, "turns"),
        ("drafts", sum(map(len, texts)), limits.conversation, "characters in drafts and earlier turns"),
    )
    for field, size, most, what in sizes:
        if size > most:
            raise refused(f"{size:,} {what}; at most {most:,} are allowed", param=field)


def _check_pixels(consultation: Consultation, limits: Limits) -> None:
    pixels = sum(image.pixels for image in consultation.query.images)
    if pixels > limits.all_pixels:
        raise refused(f"{pixels:,} pixels; at most {limits.all_pixels:,} are allowed", param="pictures")


async def _reply(service: Service, consultation: Consultation) -> dict[str, Any]:
    async with service.under_way():
        return (await consultation.reply()).model_dump(mode="json")


async def _events(service: Service, consultation: Consultation) -> AsyncGenerator[str, None]:
    try:
        async with service.under_way(), aclosing(consultation.events()) as events:
            async for event in events:
                yield as_json(event)
    except Exception as error:
        yield _failed(errors.as_api_error(error))


def _failed(error: ApiError) -> str:
    told = error.body.error
    wait = (error.headers or {}).get("Retry-After")
    body = StreamError(
        message=told.message, type=told.type, hint=told.hint, retry_after=None if wait is None else float(wait)
    )
    return as_json(StreamFailed(error=body))
