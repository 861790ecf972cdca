"""`POST /v1/responses`: the team as one model, in the form of OpenAI's Responses API. Nothing is stored."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from colm_vl.service import errors
from colm_vl.service.access import Admitted, CurrentService
from colm_vl.service.asking import Asked, Wanted, check_tools, prepare, reasoning_tokens
from colm_vl.service.conversation import Address, Said
from colm_vl.service.errors import as_api_error, refused
from colm_vl.service.narration import narrated
from colm_vl.service.options import SamplingOptions
from colm_vl.service.responses_types import (
    InputDetails,
    InputImage,
    InputMessage,
    InputText,
    OutputDetails,
    OutputMessage,
    OutputText,
    ReasoningItem,
    ReasoningText,
    ResponseError,
    ResponseReply,
    ResponsesRequest,
    ResponsesUsage,
)
from colm_vl.service.settings import Settings
from colm_vl.service.streaming import described, event_stream, while_connected
from colm_vl.service.wire import Json, as_json
from colm_vl.types import Trace


def add_routes(app: FastAPI) -> None:
    app.add_api_route(
        "/v1/responses",
        _respond,
        methods=["POST"],
        tags=["OpenAI"],
        operation_id="create_response",
        response_model=ResponseReply,
        responses={
            **described("last `response.completed` or `response.failed`."),
            **errors.responses(404, 413, 429, 502, 503),
        },
    )


async def _respond(request: Request, body: ResponsesRequest, service: CurrentService, caller: Admitted) -> Response:
    """Ask the team. The settled answer is the output message; drafts, guidance and refinements are reasoning."""
    _check_supported(body, service.settings)
    sampling = SamplingOptions(body.max_output_tokens, body.temperature, body.top_p)
    asked = await prepare(service, caller, Wanted(body.model, _messages(body), sampling, _schema(body), body.colm))
    head = ResponseReply(
        id=_id("resp"),
        created_at=int(time.time()),
        model=body.model,
        status="in_progress",
        instructions=body.instructions,
        temperature=body.temperature,
        top_p=body.top_p,
    )
    if body.stream:
        return event_stream(_streamed(asked, head), keep_alive=service.settings.keep_alive)
    trace = await while_connected(request, asked.answer())
    output: list[ReasoningItem | OutputMessage] = []
    if told := narrated(trace):
        output.append(ReasoningItem(id=_id("rs"), content=[ReasoningText(text=told)]))
    output.append(OutputMessage(id=_id("msg"), content=[OutputText(text=trace.answer)]))
    return Json(_completed(asked, head, output, trace).model_dump())


def _check_supported(body: ResponsesRequest, settings: Settings) -> None:
    check_tools(body.tools, body.tool_choice, settings)
    if body.previous_response_id is not None or body.background:
        param = "background" if body.background else "previous_response_id"
        raise refused("responses are not stored", param=param, hint="send the whole conversation as input")


def _messages(body: ResponsesRequest) -> list[Said]:
    said = [Said("system", (body.instructions,))] if body.instructions else []
    if isinstance(body.input, str):
        return [*said, Said("user", (body.input,))]
    return said + [_said(item) for item in body.input if isinstance(item, InputMessage)]


def _said(message: InputMessage) -> Said:
    role = "system" if message.role == "developer" else message.role
    if isinstance(message.content, str):
        return Said(role, (message.content,))
    parts: list[str | Address] = []
    for part in message.content:
        if isinstance(part, InputImage):
            parts.append(Address(part.image_url))
        else:
            parts.append(part.text if isinstance(part, InputText) else part.refusal)
    return Said(role, tuple(parts))


def _schema(body: ResponsesRequest) -> dict[str, Any] | None:
    wanted = body.text.format if body.text else None
    if wanted is None or wanted.type == "text":
        return None
    if wanted.type == "json_object":
        return {"type": "object"}
    if not wanted.schema_:
        raise refused("text.format has no schema", param="text.format.schema")
    return wanted.schema_


def _completed(
    asked: Asked, head: ResponseReply, output: list[ReasoningItem | OutputMessage], trace: Trace
) -> ResponseReply:
    total = trace.usage
    usage = ResponsesUsage(
        input_tokens=total.prompt_tokens,
        input_tokens_details=InputDetails(cached_tokens=total.cached_tokens),
        output_tokens=total.completion_tokens,
        output_tokens_details=OutputDetails(reasoning_tokens=reasoning_tokens(trace)),
        total_tokens=total.prompt_tokens + total.completion_tokens,
    )
    result = asked.result(trace)
    return head.model_copy(update={"status": "completed", "output": output, "usage": usage, "colm": result})


@dataclass(slots=True)
class _Events:
    """Numbers the events, and keeps what they add up to."""

    output: list[ReasoningItem | OutputMessage] = field(default_factory=list)
    _number: int = 0

    def event(self, kind: str, **fields: Any) -> str:
        event = _Event.model_validate({"type": kind, "sequence_number": self._number, **fields})
        self._number += 1
        return as_json(event)

    def of_item(self, kind: str, **fields: Any) -> str:
        return self.event(kind, item_id=self.output[-1].id, output_index=len(self.output) - 1, **fields)

    def item(self, kind: str) -> str:
        return self.event(kind, output_index=len(self.output) - 1, item=self.output[-1])

    def finish_reasoning(self, told: str) -> list[str]:
        if not self.output:
            return []
        self.output[-1] = ReasoningItem(id=self.output[-1].id, content=[ReasoningText(text=told)])
        done = self.of_item("response.reasoning_text.done", content_index=0, text=told)
        return [done, self.item("response.output_item.done")]

    def message(self, text: str) -> list[str]:
        part = OutputText(text=text)
        self.output.append(OutputMessage(id=_id("msg"), status="in_progress", content=[]))
        begun = [
            self.item("response.output_item.added"),
            self.of_item("response.content_part.added", content_index=0, part=OutputText(text="")),
            self.of_item("response.output_text.delta", content_index=0, delta=text, logprobs=[]),
            self.of_item("response.output_text.done", content_index=0, text=text, logprobs=[]),
            self.of_item("response.content_part.done", content_index=0, part=part),
        ]
        self.output[-1] = OutputMessage(id=self.output[-1].id, content=[part])
        return [*begun, self.item("response.output_item.done")]


class _Event(BaseModel, extra="allow"):
    type: str
    sequence_number: int


async def _streamed(asked: Asked, head: ResponseReply) -> AsyncGenerator[str, None]:
    """The data of the events."""
    events = _Events()
    yield events.event("response.created", response=head)
    yield events.event("response.in_progress", response=head)
    told: list[str] = []
    try:
        async with aclosing(asked.follow()) as pieces:
            async for piece in pieces:
                if isinstance(piece, Trace):
                    for event in [*events.finish_reasoning("".join(told)), *events.message(piece.answer)]:
                        yield event
                    reply = _completed(asked, head, events.output, piece)
                    yield events.event("response.completed", response=reply)
                    continue
                if not told:
                    events.output.append(ReasoningItem(id=_id("rs"), status="in_progress", content=[]))
                    yield events.item("response.output_item.added")
                told.append(piece)
                yield events.of_item("response.reasoning_text.delta", content_index=0, delta=piece)
    except Exception as error:
        said = as_api_error(error).body.error
        problem = ResponseError(code=said.code or said.type, message=said.message)
        failed = head.model_copy(update={"status": "failed", "error": problem})
        yield events.event("response.failed", response=failed)


def _id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
