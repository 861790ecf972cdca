"""From a request of OpenAI's APIs to a question for the team, and from its trace to what a caller is shown."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, Field

from colm_vl.service import accounting, answering, models
from colm_vl.service.context import Service
from colm_vl.service.conversation import Said, is_side_task, read_query
from colm_vl.service.endings import alone, under_schema
from colm_vl.service.errors import no_answer, refused
from colm_vl.service.narration import Narrator
from colm_vl.service.options import ColmOptions, SamplingOptions, chosen
from colm_vl.service.queue import Caller
from colm_vl.service.schemas import check_schema
from colm_vl.service.settings import Settings
from colm_vl.strategies import Choice
from colm_vl.types import Query, Trace


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request as both APIs can express it."""

    model: str
    messages: Sequence[Said]
    sampling: SamplingOptions
    schema: Mapping[str, Any] | None
    colm: ColmOptions


def check_tools(tools: Sequence[Any] | None, choice: object, settings: Settings, param: str = "tools") -> None:
    """Raises `ApiError` if a request has tools, unless the operator lets those be ignored that need not be called."""
    if not tools:
        return
    if choice not in (None, "auto", "none"):
        raise refused("tools are not supported, so none can be called", param=param, hint=f"leave {param} out")
    if not settings.ignore_tools:
        hint = f"leave {param} out, or set ignore_tools in the service's settings"
        raise refused("tools are not supported", param=param, hint=hint)


class ColmResult(BaseModel):
    trace: dict[str, Any] = Field(description="the record of the question, as `colm-vl ask --json` prints it")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question that can be put to the team."""

    service: Service
    caller: Caller
    model: str
    query: Query
    choice: Choice
    wants_trace: bool = False

    async def answer(self) -> Trace:
        """Raises `ApiError` if there is no answer."""
        return _answered(await answering.answer(self.service, self.caller, self.query, self.choice))

    async def follow(self) -> AsyncGenerator[str | Trace, None]:
        """What the members write, in pieces, and last the trace. Raises `ApiError` if there is no answer."""
        narrator = Narrator()
        async with aclosing(answering.follow(self.service, self.caller, self.query, self.choice)) as events:
            async for event in events:
                text = narrator.rest() if isinstance(event, Trace) else narrator.told(event)
                if text:
                    accounting.first_token()
                    yield text
                if isinstance(event, Trace):
                    yield _answered(event)

    def result(self, trace: Trace) -> ColmResult | None:
        return ColmResult(trace=_shown(trace).to_dict()) if self.wants_trace else None


async def prepare(service: Service, caller: Caller, wanted: Wanted) -> Asked:
    """Raises `ApiError`, `InputError` or `ImageError` if the request cannot be carried out."""
    if wanted.model not in service.models:
        raise models.unknown(wanted.model)
    choice = chosen(service.team, wanted.model, wanted.colm, wanted.sampling, service.settings)
    if is_side_task(wanted.messages):
        choice = alone(choice, wanted.messages)
    elif wanted.schema is not None:
        check_schema(wanted.schema)
        choice = under_schema(choice, wanted.schema)
    query = await read_query(wanted.messages, wanted.colm.choices, service.settings, service.decoding)
    return Asked(service, caller, wanted.model, query, choice, wanted.colm.trace)


def reasoning_tokens(trace: Trace) -> int:
    """The tokens of all replies but the last one of a member that gave the answer."""
    by = trace.settlement.by if trace.settlement else ()
    own = [call for call in trace.calls if by and call.member == by[0]]
    return trace.usage.completion_tokens - (own[-1].usage.completion_tokens if own else 0)


def _answered(trace: Trace) -> Trace:
    if trace.settlement is None:
        raise no_answer([(failure.member or "", failure.kind) for failure in trace.failures])
    return trace


def _shown(trace: Trace) -> Trace:
    """The trace as a caller may see it: messages of failed members can contain addresses, and profiles have paths."""
    return replace(
        trace,
        failures=tuple(replace(failure, message=failure.kind, hint="") for failure in trace.failures),
        members=tuple(replace(member, prompts=PurePath(member.prompts).name) for member in trace.members),
    )
