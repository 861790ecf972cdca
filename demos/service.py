"""Answers visitors' questions with one `CoLM` and a waiting line. Every question can be cancelled."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from colm_vl import CoLM, ColmError, Event, Failure, Query, Trace
from colm_vl.boxes import scales

from .inputs import Limits, in_force, read_pictures, read_query
from .messages import for_visitors
from .view import SHOWN_PIXELS, QueuePosition, Size, View, thumbnails
from .waiting import Ticket, WaitingLine

logger = logging.getLogger(__name__)

REDRAW_SECONDS = 0.12
"""Minimum time between updates of the page."""
TICK_SECONDS = 1.0
"""Maximum time between updates. Gradio notices only on an update that a visitor has left."""
BATCH_CONCURRENCY = 4
"""Questions of one batch answered at the same time; other visitors use the models as well."""

DECODED_AT_ONCE = 2
"""Questions whose pictures are decoded at the same time, to check them or to ask."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A question and the policy fields that are changed for it.

    `files` are its pictures. They are opened when the question is admitted: a decoded photograph takes tens of
    megabytes, and a line of them would fill the memory.
    """

    query: Query
    changes: Mapping[str, Any]
    truth: str = ""
    files: tuple[str, ...] = ()


class Busy(ColmError):
    """The visitor's previous question is still being answered."""

    kind = "busy"

    def __init__(self) -> None:
        super().__init__("your last question is still being answered", hint="stop it first")


class Service:
    """`visit` is a string that identifies a visitor. Each visitor can have one question running at a time."""

    def __init__(self, colm: CoLM, waiting: WaitingLine, limits: Limits | None = None) -> None:
        self.colm = colm
        self.waiting = waiting
        self.limits = limits or Limits()
        self.loaded = threading.Event()
        """Set once the local models are loaded, or will be at the first question."""
        self.loaded.set()
        self._decoding = asyncio.Semaphore(DECODED_AT_ONCE)
        self._stops: dict[str, asyncio.Event] = {}
        self._ends: dict[str, asyncio.Event] = {}

    def stop(self, visit: str) -> None:
        """Cancel the visitor's running or waiting question."""
        if visit in self._stops:
            self._stops[visit].set()

    def is_busy(self, visit: str) -> bool:
        return visit in self._stops

    async def until_free(self, visit: str) -> AsyncGenerator[None, None]:
        """Yield at least every `TICK_SECONDS` while the visitor has a question running."""
        if ended := self._ends.get(visit):
            async for _ in _until(ended):
                yield

    async def read(self, question: str, files: Sequence[str], choices: Sequence[str] = ()) -> Query:
        """The question with its pictures, to check them. Raises `FieldError`."""
        async with self._decoding:
            return await asyncio.to_thread(read_query, question, files, choices, self.limits)

    async def _opened(self, asked: Asked) -> Query:
        async with self._decoding:
            images = await asyncio.to_thread(read_pictures, asked.files, self.limits)
        return replace(asked.query, images=images)

    async def ask(self, visit: str, asked: Asked) -> AsyncGenerator[View, None]:
        """Yield the same view each time it has changed. Closing the generator cancels the question.

        Raises `Full`, `Busy`, and `ColmError` if the policy is invalid or a picture cannot be opened.
        """
        team = self.colm.team.with_policy(**asked.changes)
        view = View.begin(team, team.policy.strategy, asked.query.question, asked.query.choices)

        def take(event: Event) -> None:
            if isinstance(event, Failure):
                logger.warning("%s: %s", event.stage, event.message)
            view.take(for_visitors(event) if isinstance(event, Trace) else event)

        view.truth, view.settings = asked.truth, in_force(team)
        with self._begin(visit) as ticket:
            stopped = self._stops[visit]
            try:
                async for _ in _until(ticket.admitted, stopped):
                    view.line = QueuePosition(ticket.ahead, self.waiting.waiting)
                    yield view
                view.line = None
                if not stopped.is_set():
                    query = await self._opened(asked)
                    view.thumbnails = await asyncio.to_thread(thumbnails, query.images)
                    view.pictures = await asyncio.to_thread(thumbnails, query.images, SHOWN_PIXELS)
                    if len(query.images) == 1:
                        view.size = Size(query.images[0].width, query.images[0].height)
                        view.scales = await asyncio.to_thread(scales, team, query.images)
                    events = self.colm.stream(query, **asked.changes)
                    del query  # the run holds it while it is needed
                    async with aclosing(self._drain(events, take, stopped, view)) as turns:
                        async for _ in turns:
                            yield view
            finally:
                self._end(visit)
        if stopped.is_set() and not view.over:
            view.stop()
        yield view

    async def answer(self, visit: str, asked: Asked) -> Trace:
        """Like `ask`, but return only the trace."""
        trace = None
        async for view in self.ask(visit, asked):
            trace = view.trace
        if trace is None:
            raise ColmError("stopped before there was an answer")
        return trace

    def compare(self, visit: str, asked: Asked, strategies: Sequence[str]) -> AsyncGenerator[list[Trace], None]:
        """Yield the list of finished traces each time it grows. Like `ask` otherwise."""
        changes = {name: value for name, value in asked.changes.items() if name != "strategy"}

        async def start() -> AsyncIterable[Trace]:
            return self.colm.compare(await self._opened(asked), strategies, **changes)

        return self._collect(visit, start)

    def batch(
        self, visit: str, queries: Iterable[Query], changes: Mapping[str, Any]
    ) -> AsyncGenerator[list[Trace], None]:
        """Yield the finished traces, in the order of the questions. When stopped, running calls are finished."""

        async def start() -> AsyncIterable[Trace]:
            return self.colm.batch(queries, concurrency=BATCH_CONCURRENCY, **changes)

        return self._collect(visit, start)

    async def _collect(
        self, visit: str, start: Callable[[], Awaitable[AsyncIterable[Trace]]]
    ) -> AsyncGenerator[list[Trace], None]:
        done: list[Trace] = []

        def take(trace: Trace) -> None:
            for failure in trace.failures:
                logger.warning("%s: %s", failure.stage, failure.message)
            done.append(for_visitors(trace))

        with self._begin(visit) as ticket:
            stopped = self._stops[visit]
            try:
                async for _ in _until(ticket.admitted, stopped):
                    yield done
                if not stopped.is_set():
                    async with aclosing(self._drain(await start(), take, stopped)) as turns:
                        async for _ in turns:
                            yield done
            finally:
                self._end(visit)
        yield done

    def _begin(self, visit: str) -> Ticket:
        if visit in self._stops:
            raise Busy
        ticket = self.waiting.line_up()
        self._stops[visit], self._ends[visit] = asyncio.Event(), asyncio.Event()
        return ticket

    def _end(self, visit: str) -> None:
        del self._stops[visit]
        self._ends.pop(visit).set()

    async def _drain(
        self, items: AsyncIterable[_T], take: Callable[[_T], None], stopped: asyncio.Event, view: View | None = None
    ) -> AsyncGenerator[None, None]:
        """Pass all items to `take`. Yield after new items, but at most every `REDRAW_SECONDS`, and at least every
        `TICK_SECONDS`."""
        news, begun = asyncio.Event(), time.monotonic()

        async def pump() -> None:
            async for item in items:
                take(item)
                news.set()

        work = asyncio.create_task(pump())
        work.add_done_callback(lambda _: news.set())
        stopping = asyncio.create_task(stopped.wait())
        stopping.add_done_callback(lambda _: news.set())
        try:
            while not work.done() and not stopped.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), TICK_SECONDS)
                news.clear()
                if view is not None and not view.over:
                    view.seconds = time.monotonic() - begun
                yield
                await asyncio.sleep(REDRAW_SECONDS)
            if work.done():
                work.result()
        finally:
            stopping.cancel()
            work.cancel()
            await asyncio.wait([work])


async def _until(*events: asyncio.Event) -> AsyncGenerator[None, None]:
    """Yield at least every `TICK_SECONDS` until one of the events is set."""
    while not any(event.is_set() for event in events):
        yield
        waits = [asyncio.create_task(event.wait()) for event in events]
        try:
            await asyncio.wait(waits, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
