"""Answers one question in a caller's name."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from colm_vl._following import follow as followed
from colm_vl.events import Event
from colm_vl.run import Run
from colm_vl.service import accounting
from colm_vl.service.context import Service
from colm_vl.service.queue import Caller
from colm_vl.service.queued import visit
from colm_vl.strategies import Choice
from colm_vl.types import Query, Trace


async def answer(service: Service, caller: Caller, query: Query, choice: Choice) -> Trace:
    """The trace, also if there is no answer."""
    run = Run(query, choice.team, service.pool)
    with visit(caller):
        return await _carry_out(service, choice, run)


async def follow(service: Service, caller: Caller, query: Query, choice: Choice) -> AsyncGenerator[Event, None]:
    """The events as they happen, last the trace. Closing the generator cancels the question."""

    async def answer(emit: Callable[[Event], None]) -> None:
        with visit(caller):
            emit(await _carry_out(service, choice, Run(query, choice.team, service.pool, emit=emit)))

    async with aclosing(followed(answer)) as events:
        async for event in events:
            yield event


async def _carry_out(service: Service, choice: Choice, run: Run) -> Trace:
    try:
        async with service.under_way():
            await choice.strategy.run(run)
    finally:
        accounting.charge(run.trace())
    return run.trace()
