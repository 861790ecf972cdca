"""`POST /v1/chat/completions`: the team as one model."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Literal

from fastapi import FastAPI, Request, Response

from colm_vl.service.access import Admitted, CurrentService
from colm_vl.service.asking import Asked, ColmResult, Wanted, check_tools, prepare, reasoning_tokens
from colm_vl.service.chat_types import (
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    ChatUsage,
    ChunkChoice,
    ChunkDelta,
    CompletionDetails,
    ImagePart,
    ImageUrl,
    PromptDetails,
    ReplyChoice,
    ReplyMessage,
    TextPart,
)
from colm_vl.service.context import Service
from colm_vl.service.conversation import Address, Said
from colm_vl.service.errors import as_api_error, refused, responses
from colm_vl.service.narration import narrated
from colm_vl.service.options import SamplingOptions
from colm_vl.service.queue import Caller
from colm_vl.service.settings import Settings
from colm_vl.service.streaming import described, event_stream, while_connected
from colm_vl.service.wire import Json, as_json
from colm_vl.types import Trace

_DONE: Final = "[DONE]"


def add_routes(app: FastAPI) -> None:
    app.add_api_route(
        "/v1/chat/completions",
        _complete,
        methods=["POST"],
        tags=["OpenAI"],
        operation_id="create_chat_completion",
        response_model=ChatCompletion,
        responses={**described("chunks, and last `[DONE]`."), **responses(404, 413, 429, 502, 503)},
    )


async def _complete(request: Request, body: ChatRequest, service: CurrentService, caller: Admitted) -> Response:
    """Ask the team. The settled answer is the `content`; drafts, guidance and refinements are `reasoning_content`."""
    _check_supported(body, service.settings)
    asked = await _read(body, service, caller)
    if body.stream:
        wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        return event_stream(_streamed(asked, wants_usage), keep_alive=service.settings.keep_alive)
    trace = await while_connected(request, asked.answer())
    return Json(_completion(asked, trace).model_dump(exclude_none=True))


def _check_supported(body: ChatRequest, settings: Settings) -> None:
    if body.n not in (None, 1):
        raise refused(f"n is {body.n}: a team settles on one answer", param="n", hint="leave n out")
    check_tools(body.tools, body.tool_choice, settings)
    check_tools(body.functions, body.function_call, settings, "functions")
    if body.audio or set(body.modalities or ()) - {"text"}:
        param = "audio" if body.audio else "modalities"
        raise refused("audio is not supported; the answer is text", param=param, hint=f"leave {param} out")


async def _read(body: ChatRequest, service: Service, caller: Caller) -> Asked:
    limits = [limit for limit in (body.max_completion_tokens, body.max_tokens) if limit]
    sampling = SamplingOptions(min(limits, default=None), body.temperature, body.top_p, body.seed)
    messages = [_said(message) for message in body.messages]
    return await prepare(service, caller, Wanted(body.model, messages, sampling, _schema(body), body.colm))


def _schema(body: ChatRequest) -> dict[str, Any] | None:
    wanted = body.response_format
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if wanted.json_schema is None or not wanted.json_schema.schema_:
        raise refused("response_format has no schema", param="response_format.json_schema.schema")
    return wanted.json_schema.schema_


def _said(message: ChatMessage) -> Said:
    role = "system" if message.role == "developer" else message.role
    if not isinstance(message.content, list):
        return Said(role, (message.content,) if message.content else ())
    parts: list[str | Address] = []
    for part in message.content:
        if isinstance(part, ImagePart):
            url = part.image_url
            parts.append(Address(url.url if isinstance(url, ImageUrl) else url))
        else:
            parts.append(part.text if isinstance(part, TextPart) else part.refusal)
    return Said(role, tuple(parts))


def _completion(asked: Asked, trace: Trace) -> ChatCompletion:
    message = ReplyMessage(content=trace.answer, reasoning_content=narrated(trace) or None)
    return ChatCompletion(
        id=_id(),
        created=int(time.time()),
        model=asked.model,
        choices=[ReplyChoice(message=message)],
        usage=usage(trace),
        colm=asked.result(trace),
    )


async def _streamed(asked: Asked, wants_usage: bool) -> AsyncGenerator[str, None]:
    """The data of the events."""
    name, created = _id(), int(time.time())

    def chunk(
        *deltas: ChunkDelta,
        finish: Literal["stop"] | None = None,
        spent: ChatUsage | None = None,
        result: ColmResult | None = None,
    ) -> str:
        choices = [ChunkChoice(delta=delta, finish_reason=finish) for delta in deltas]
        made = ChatChunk(id=name, created=created, model=asked.model, choices=choices, usage=spent, colm=result)
        return as_json(made, exclude_none=True)

    yield chunk(ChunkDelta(role="assistant", content=""))
    try:
        async with aclosing(asked.follow()) as pieces:
            async for piece in pieces:
                if not isinstance(piece, Trace):
                    yield chunk(ChunkDelta(reasoning_content=piece))
                    continue
                yield chunk(ChunkDelta(content=piece.answer))
                yield chunk(ChunkDelta(), finish="stop", result=asked.result(piece))
                if wants_usage:
                    yield chunk(spent=usage(piece))
    except Exception as error:
        yield as_json(as_api_error(error).body)
    yield _DONE


def usage(trace: Trace) -> ChatUsage:
    total = trace.usage
    return ChatUsage(
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        total_tokens=total.prompt_tokens + total.completion_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=total.cached_tokens),
        completion_tokens_details=CompletionDetails(reasoning_tokens=reasoning_tokens(trace)),
    )


def _id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
