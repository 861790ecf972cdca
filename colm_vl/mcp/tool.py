"""A server of MCP with the tool `ask`. How a question is answered is the business of an `Asker`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final, Protocol

from mcp import types
from mcp.server.lowlevel import Server
from mcp.shared.context import RequestContext

from colm_vl import __version__, pocket
from colm_vl.errors import InputError, NoAnswer
from colm_vl.events import Event, Queued, StageStarted
from colm_vl.mcp import arguments, result
from colm_vl.mcp.arguments import Arguments
from colm_vl.team import Team
from colm_vl.types import STAGE_TITLES, Draft, Guidance, Refinement, Trace, Verdict

logger = logging.getLogger(__name__)

NAME: Final = "ask"
_BEAT: Final = 10.0
"""Seconds between signs of life. Clients give up after a minute without one."""


class Asker(Protocol):
    team: Team
    paths: bool
    """Whether pictures can be files of this machine."""

    def follow(self, asked: Arguments, request: Any) -> AsyncGenerator[Event, None]:
        """The events of a question, last its trace. `request` is the HTTP request, if there is one."""
        ...

    def tell(self, error: Exception) -> str:
        """The error for the caller, without anything internal."""
        ...


def tool_server(asker: Asker) -> Server[Any, Any]:
    server: Server[Any, Any] = Server("colm-vl", version=__version__)
    tool = types.Tool(
        name=NAME,
        title="Ask the team about a picture",
        description=_description(asker.team),
        inputSchema=arguments.schema(paths=asker.paths),
        outputSchema=result.Answer.model_json_schema(),
        annotations=types.ToolAnnotations(readOnlyHint=True, idempotentHint=True, openWorldHint=False),
    )

    async def list_tools(_: types.ListToolsRequest) -> types.ServerResult:
        return types.ServerResult(types.ListToolsResult(tools=[tool]))

    async def call_tool(call: types.CallToolRequest) -> types.ServerResult:
        try:
            if call.params.name != NAME:
                raise InputError(f"no tool is called {call.params.name!a}", hint=f"the tool is {NAME}")
            told = await _answer(asker, arguments.read(call.params.arguments or {}), server.request_context)
        except Exception as error:
            told = _text(" ".join(asker.tell(error).split()), failed=True)
        return types.ServerResult(told)

    server.request_handlers[types.ListToolsRequest] = list_tools
    server.request_handlers[types.CallToolRequest] = call_tool
    return server


async def _answer(asker: Asker, asked: Arguments, context: RequestContext[Any, Any, Any]) -> types.CallToolResult:
    progress = _Progress(context)
    beat = asyncio.create_task(progress.beat())
    try:
        trace: Trace | None = None
        async with aclosing(asker.follow(asked, context.request)) as events:
            async for event in events:
                await progress.told(event)
                trace = event if isinstance(event, Trace) else None
    finally:
        beat.cancel()
    assert trace is not None
    for failure in trace.failures:
        logger.warning("%s: %s", failure.stage, failure.message)
    if trace.settlement is None:
        failures = "; ".join(result.failures(trace))
        raise NoAnswer(f"no answer: {failures or 'no reply could be read'}", trace=trace)
    answer = result.of(trace)
    told = _text(result.text(answer))
    told.structuredContent = answer.model_dump()
    return told


class _Progress:
    """Notifies the caller, if it wants that, of each stage and reply, and every `_BEAT` seconds."""

    def __init__(self, context: RequestContext[Any, Any, Any]) -> None:
        self._context = context
        self._token = context.meta.progressToken if context.meta else None
        self._count = 0
        self._stage = "Reading the question"

    async def told(self, event: Event) -> None:
        match event:
            case StageStarted():
                round = f", round {event.round}" if event.round > 1 else ""
                members = f": {', '.join(event.members)}" if event.members else ""
                self._stage = f"{STAGE_TITLES[event.stage]}{round}{members}"
                await self._send(self._stage)
            case Queued(ahead=int(ahead)):
                await self._send(f"{event.member} waits for its turn, {ahead} ahead")
            case Draft() | Refinement():
                await self._send(f"{event.client}: {event.answer or 'no readable answer'}")
            case Guidance():
                await self._send(f"{event.server}: guidance written")
            case Verdict():
                await self._send(f"{event.server}: {event.answer or 'no readable answer'}")
            case _:
                pass

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(_BEAT)
            await self._send(self._stage)

    async def _send(self, message: str) -> None:
        if self._token is None:
            return
        self._count += 1
        await self._context.session.send_progress_notification(
            self._token, self._count, message=message, related_request_id=str(self._context.request_id)
        )


def _description(team: Team) -> str:
    clients = [f"{client.name} ({client.specialty})" if client.specialty else client.name for client in team.clients]
    told = (
        "Ask a team of vision-language models one question about one or several pictures, or about none. Each client "
        "drafts an answer, a larger model may write guidance, and each client refines its own answer. Returns the "
        "team's answer, who gave it, and how sure each client is. "
        f"Clients: {', '.join(clients)}."
    )
    return f"{told} {pocket.NOTE}" if team.is_pocket else told


def _text(text: str, *, failed: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)], isError=failed)
