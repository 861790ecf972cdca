"""`CoLM`: the synchronous counterpart of `AsyncCoLM`, for scripts, notebooks and threads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from colm_vl._portal import Portal, Stream
from colm_vl.backends.base import Backend
from colm_vl.batch import BatchStats, Plan, Source
from colm_vl.batch.executors import RayOptions
from colm_vl.engine import AsyncCoLM, Images, read_query
from colm_vl.events import Event
from colm_vl.health import Health
from colm_vl.team import Team
from colm_vl.types import Query, Trace

_T = TypeVar("_T")


class CoLM:
    """A team that answers questions. Wraps an `AsyncCoLM` that runs on an event loop in its own thread.

    Every method can be called from any thread, and from code that already runs in an event loop. Iterators that it
    returns work with `for` and with `async for`.

        with CoLM.from_team("team.toml") as colm:
            print(colm.ask("What is the total in the chart?", images=["q3.png"]).answer)
    """

    def __init__(self, team: Team, *, backends: Mapping[str, Backend] | None = None) -> None:
        self._engine = AsyncCoLM(team, backends=backends)
        self._portal: Portal | None = None
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def from_team(cls, path: str | Path | None = None, **policy: Any) -> Self:
        """See `AsyncCoLM.from_team`."""
        team = Team.load(path) if path is not None else Team.pocket()
        return cls(team.with_policy(**policy) if policy else team)

    @property
    def team(self) -> Team:
        return self._engine.team

    def ask(
        self,
        question: str | Query,
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> Trace:
        """Ask one question and wait for the answer. See `AsyncCoLM.ask`."""
        query = read_query(question, images, choices)
        return self._running().run(lambda: self._engine.ask(query, **policy))

    async def aask(
        self,
        question: str | Query,
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> Trace:
        """Like `ask`, for async code."""
        return await self._running().arun(lambda: self._engine.ask(question, images, choices=choices, **policy))

    def stream(
        self,
        question: str | Query,
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> Stream[Event]:
        """Ask one question and yield its events as they happen, with `for` or `async for`. See `AsyncCoLM.stream`.

        Leaving the loop early cancels the question.
        """
        query = read_query(question, images, choices)
        return self._stream(lambda: self._engine.stream(query, **policy))

    def compare(
        self,
        question: str | Query,
        strategies: Iterable[str],
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> Stream[Trace]:
        """Answer one question with several strategies; use `for` or `async for`. See `AsyncCoLM.compare`."""
        query, names = read_query(question, images, choices), list(strategies)
        return self._stream(lambda: self._engine.compare(query, names, **policy))

    def batch(
        self,
        source: Source,
        out: str | Path | None = None,
        *,
        strategy: str | Iterable[str] | None = None,
        concurrency: int = 16,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        shard: str | None = None,
        ray: RayOptions | str | None = None,
        fresh: bool = False,
        stats: BatchStats | None = None,
        **policy: Any,
    ) -> Stream[Trace]:
        """Answer many questions; use `for` or `async for`. See `AsyncCoLM.batch`.

        If the loop is left early, running calls are finished and no others are made.
        """
        names = strategy if strategy is None or isinstance(strategy, str) else list(strategy)

        def start() -> AsyncGenerator[Sequence[Trace], None]:
            job = self._engine._job(
                source,
                out,
                strategy=names,
                concurrency=concurrency,
                limit=limit,
                columns=columns,
                shard=shard,
                ray=ray,
                fresh=fresh,
                stats=stats,
                **policy,
            )
            return self._engine._ready_traces(job)

        start()  # as in `_stream`
        return Stream(self._running, start, in_groups=True)

    def plan(
        self,
        source: Source,
        *,
        strategy: str | Iterable[str] | None = None,
        limit: int | None = None,
        columns: Mapping[str, str] | None = None,
        shard: str | None = None,
        **policy: Any,
    ) -> Plan:
        """Estimate the calls and tokens that `batch` would need, without calling any model."""
        return self._running().run(
            lambda: self._engine.plan(source, strategy=strategy, limit=limit, columns=columns, shard=shard, **policy)
        )

    def check(self, on_result: Callable[[Health], None] | None = None) -> Sequence[Health]:
        """Ask every member an easy question and report what works. See `AsyncCoLM.check`. `on_result` is called in
        another thread."""
        return self._running().run(lambda: self._engine.check(on_result))

    def load(self) -> None:
        """Load the local models now, not at their first calls. See `AsyncCoLM.load`."""
        self._running().run(self._engine.load)

    def close(self) -> None:
        """Release models and connections. A closed `CoLM` cannot be used again. Can be called more than once.

        Calls that are running in other threads are cancelled and raise `RuntimeError` there.
        """
        with self._lock:
            self._closed = True
            portal, self._portal = self._portal, None
        if portal is not None:
            portal.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _stream(self, start: Callable[[], AsyncGenerator[_T, None]]) -> Stream[_T]:
        start()  # starts no work, but raises here, not at the first item, if the arguments are wrong
        return Stream(self._running, start)

    def _running(self) -> Portal:
        with self._lock:
            if self._closed:
                raise RuntimeError("this CoLM is closed")
            self._portal = self._portal or Portal(self._engine.aclose)
            return self._portal
