"""Guidance for clients elsewhere: their requests become calls of the team's server, by its prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from colm_vl._following import follow
from colm_vl.backend_pool import BackendPool
from colm_vl.errors import ConfigError
from colm_vl.events import Delta, Event
from colm_vl.events import Queued as QueuedCall
from colm_vl.guidance_protocol import (
    GuidanceReading,
    GuidanceRequest,
    Queued,
    Reply,
    ReplyDone,
    SelectionReading,
    SelectionRequest,
    Started,
    Task,
    TextDelta,
    VerdictReading,
)
from colm_vl.guides import Guide, guide_of
from colm_vl.run import Run
from colm_vl.service import accounting
from colm_vl.service.failures import told
from colm_vl.service.queue import Caller
from colm_vl.service.queued import visit
from colm_vl.service.shared import Pictures, Places
from colm_vl.store import CallsUnderWay
from colm_vl.team import Team
from colm_vl.types import Query

Consulted = Queued | Started | TextDelta | ReplyDone


class GuidanceService:
    """Asks the server of `team`. Equal requests that one caller makes at the same time share a call."""

    def __init__(self, team: Team, pool: BackendPool, places: Places, pictures: Pictures) -> None:
        """`pool` has the server behind the queue. Raises `ConfigError` if the team has no server."""
        if team.server is None:
            raise ConfigError(f"{team.source}: no server", hint="add the table [server]")
        self.places = places
        self.pictures = pictures
        self._team = team
        self._pool = pool
        self._stores: defaultdict[str, CallsUnderWay] = defaultdict(CallsUnderWay)

    async def prepare(self, caller: Caller, task: Task) -> Consultation:
        """Check the request. Raises `Refusal` if it is not accepted now, `MissingPicture`, and `InputError` or
        `ImageError` if it is invalid."""
        await self.places.admit(caller)
        images = await self.pictures.open(caller.name, task.pictures)
        return Consultation(self, caller, task, Query(task.question, images, task.choices, history=task.history))


@dataclass(frozen=True, slots=True)
class Consultation:
    """One request that was accepted."""

    service: GuidanceService
    caller: Caller
    task: Task
    query: Query

    async def reply(self) -> Reply:
        """Raises `BackendError` if the server fails."""
        async with aclosing(self.events()) as events:
            async for event in events:
                if isinstance(event, ReplyDone):
                    return self.task.Reply.model_validate(event.reply)
        raise AssertionError("the events end with the reply")

    async def events(self) -> AsyncGenerator[Consulted, None]:
        """What happens, as it happens. The last event is the reply. Closing the generator cancels the call."""
        async with aclosing(follow(self._answer)) as events:
            async for event in events:
                match event:
                    case QueuedCall():
                        yield Started() if event.ahead is None else Queued(ahead=event.ahead)
                    case Delta():
                        accounting.first_token()
                        yield TextDelta(text=event.text)
                    case ReplyDone():
                        yield event

    async def _answer(self, emit: Callable[[Event | ReplyDone], None]) -> None:
        service, caller = self.service, self.caller
        run = Run(self.query, service._team, service._pool, emit=emit, store=service._stores[caller.name])
        with visit(caller):
            emit(ReplyDone(reply=(await self._ask(run)).model_dump(mode="json")))

    async def _ask(self, run: Run) -> Reply:
        try:
            guide = guide_of(run)
            assert guide is not None
            reading = await self._read(guide)
        finally:
            accounting.charge(run.trace())
        trace = run.trace()
        if reading is None:
            raise told(trace.failures[-1], self.service.places.retry_after)
        return self.task.Reply(**reading.model_dump(), usage=trace.usage, notes=trace.notes)

    async def _read(self, guide: Guide) -> SelectionReading | GuidanceReading | VerdictReading | None:
        task, query = self.task, self.query
        if isinstance(task, SelectionRequest):
            specialties = {client.name: client.specialty for client in task.clients}
            return await guide.select(query, specialties, task.count)
        if isinstance(task, GuidanceRequest):
            return await guide.guide(query, task.shown, round=1)
        return await guide.verdict(query, task.shown, round=1)
