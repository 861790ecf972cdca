"""`POST /v1/chat/completions`: the team as one model."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from colm_vl.errors import ColmError
from colm_vl.service import accounting, models
from colm_vl.service.access import Admitted, CurrentService
from colm_vl.service.answering import answer, follow
from colm_vl.service.chat_types import (
    ChatChunk,
    ChatCompletion,
    ChatMessage,
    ChatRequest,
    ChatUsage,
    ChunkChoice,
    ChunkDelta,
    ColmResult,
    CompletionDetails,
    ImagePart,
    ImageUrl,
    PromptDetails,
    ReplyChoice,
    ReplyMessage,
    ResponseFormat,
    TextPart,
)
from colm_vl.service.context import Service
from colm_vl.service.conversation import Address, Said, is_side_task, read_query
from colm_vl.service.endings import alone, under_schema
from colm_vl.service.errors import NO_RETRY, ApiError, as_api_error, no_answer, refused, responses
from colm_vl.service.narration import Narrator, narrated
from colm_vl.service.options import SamplingOptions, chosen
from colm_vl.service.queue import Caller
from colm_vl.service.schemas import check_schema
from colm_vl.service.streaming import event_stream, while_connected
from colm_vl.strategies import Choice
from colm_vl.types import Query, Trace

logger = logging.getLogger(__name__)

_DONE: Final = "[DONE]"
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "The answer. With `stream`, server-sent events: chunks, and last `[DONE]`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that can be carried out."""

    service: Service
    caller: Caller
    model: str
    query: Query
    choice: Choice
    wants_trace: bool = False


def add_routes(app: FastAPI) -> None:
    app.add_api_route(
        "/v1/chat/completions",
        _complete,
        methods=["POST"],
        tags=["OpenAI"],
        operation_id="create_chat_completion",
        response_model=ChatCompletion,
        responses={**_STREAM, **responses(404, 413, 429, 502, 503)},
    )


async def _complete(request: Request, body: ChatRequest, service: CurrentService, caller: Admitted) -> Response:
    """Ask the team. The settled answer is the `content`; drafts, guidance and refinements are `reasoning_content`."""
    _check_supported(body)
    asked = await _read(body, service, caller)
    if body.stream:
        wants_usage = bool(body.stream_options and body.stream_options.include_usage)
        return event_stream(_streamed(asked, wants_usage), keep_alive=service.settings.keep_alive)
    trace = await while_connected(request, answer(service, caller, asked.query, asked.choice))
    return JSONResponse(_completion(asked, trace).model_dump(mode="json", exclude_none=True), headers=NO_RETRY)


def _check_supported(body: ChatRequest) -> None:
    if body.n not in (None, 1):
        raise refused(f"n is {body.n}: a team settles on one answer", param="n", hint="leave n out")
    if body.tools or body.functions:
        param = "tools" if body.tools else "functions"
        raise refused("tools are not supported", param=param, hint=f"leave {param} out")
    if body.audio or set(body.modalities or ()) - {"text"}:
        param = "audio" if body.audio else "modalities"
        raise refused("audio is not supported; the answer is text", param=param, hint=f"leave {param} out")


async def _read(body: ChatRequest, service: Service, caller: Caller) -> Asked:
    if body.model not in service.models:
        raise models.unknown(body.model)
    limits = [limit for limit in (body.max_completion_tokens, body.max_tokens) if limit]
    sampling = SamplingOptions(min(limits, default=None), body.temperature, body.top_p, body.seed)
    messages = [_said(message) for message in body.messages]
    choice = chosen(service.team, body.model, body.colm, sampling, service.settings)
    schema = _schema(body.response_format)
    if is_side_task(messages):
        choice = alone(choice, messages)
    elif schema is not None:
        check_schema(schema)
        choice = under_schema(choice, schema)
    query = await read_query(messages, body.colm.choices, service.settings)
    return Asked(service, caller, body.model, query, choice, body.colm.trace)


def _schema(wanted: ResponseFormat | None) -> dict[str, Any] | None:
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
    if trace.settlement is None:
        raise _unanswered(trace)
    message = ReplyMessage(content=trace.answer, reasoning_content=narrated(trace) or None)
    return ChatCompletion(
        id=_id(),
        created=int(time.time()),
        model=asked.model,
        choices=[ReplyChoice(message=message)],
        usage=usage(trace),
        colm=_result(asked, trace),
    )


async def _streamed(asked: Asked, wants_usage: bool) -> AsyncGenerator[str, None]:
    """The data of the events."""
    head = ChatChunk(id=_id(), created=int(time.time()), model=asked.model, choices=[])

    def chunk(delta: ChunkDelta, finish: str | None = None, **more: Any) -> str:
        choice = ChunkChoice.model_validate({"delta": delta, "finish_reason": finish})
        return head.model_copy(update={"choices": [choice], **more}).model_dump_json(exclude_none=True)

    yield chunk(ChunkDelta(role="assistant", content=""))
    narrator = Narrator()
    try:
        async with aclosing(follow(asked.service, asked.caller, asked.query, asked.choice)) as events:
            async for event in events:
                if isinstance(event, Trace):
                    trace = event
                    break
                if text := narrator.told(event):
                    accounting.first_token()
                    yield chunk(ChunkDelta(reasoning_content=text))
        if text := narrator.rest():
            yield chunk(ChunkDelta(reasoning_content=text))
        if trace.settlement is None:
            raise _unanswered(trace)
        yield chunk(ChunkDelta(content=trace.answer))
        yield chunk(ChunkDelta(), "stop", colm=_result(asked, trace))
        if wants_usage:
            yield head.model_copy(update={"usage": usage(trace)}).model_dump_json(exclude_none=True)
    except ApiError as error:
        yield error.body.model_dump_json()
    except ColmError as error:
        yield as_api_error(error).body.model_dump_json()
    except Exception:
        logger.exception("a stream failed")
        yield ApiError(500, "internal error").body.model_dump_json()
    yield _DONE


def usage(trace: Trace) -> ChatUsage:
    total = trace.usage
    return ChatUsage(
        prompt_tokens=total.prompt_tokens,
        completion_tokens=total.completion_tokens,
        total_tokens=total.prompt_tokens + total.completion_tokens,
        prompt_tokens_details=PromptDetails(cached_tokens=total.cached_tokens),
        completion_tokens_details=CompletionDetails(reasoning_tokens=total.completion_tokens - _answer_tokens(trace)),
    )


def _answer_tokens(trace: Trace) -> int:
    """Of the last reply of a member that gave the answer."""
    by = trace.settlement.by if trace.settlement else ()
    own = [call for call in trace.calls if by and call.member == by[0]]
    return own[-1].usage.completion_tokens if own else 0


def _unanswered(trace: Trace) -> ApiError:
    return no_answer([(failure.member or "", failure.kind) for failure in trace.failures])


def _result(asked: Asked, trace: Trace) -> ColmResult | None:
    return ColmResult(trace=shown(trace).to_dict()) if asked.wants_trace else None


def shown(trace: Trace) -> Trace:
    """The trace as a caller may see it: messages of failed members can contain addresses, and profiles have paths."""
    return replace(
        trace,
        failures=tuple(replace(failure, message=failure.kind, hint="") for failure in trace.failures),
        members=tuple(replace(member, prompts=PurePath(member.prompts).name) for member in trace.members),
    )


def _id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"
