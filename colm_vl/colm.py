"""`CoLM`: the synchronous face of `AsyncCoLM`, for scripts, notebooks and threads."""

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
from colm_vl.engine import AsyncCoLM, Images, read_query
from colm_vl.health import Health
from colm_vl.team import Team
from colm_vl.types import Event, Query, Trace

_T = TypeVar("_T")


class CoLM:
    """A team at work, as `AsyncCoLM`, on an event loop in a thread of its own.

    Every method may be called from any thread, and from code that runs in an event loop already. What it returns for
    `for` is good for `async for` as well.

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
        """As `AsyncCoLM.from_team`."""
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
        """Ask one question and wait for the answer, as `AsyncCoLM.ask`."""
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
        """As `ask`, for a caller in an event loop."""
        return await self._running().arun(lambda: self._engine.ask(question, images, choices=choices, **policy))

    def stream(
        self,
        question: str | Query,
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> Stream[Event]:
        """Ask one question and see everything as it happens, as `AsyncCoLM.stream`; for `for` and for `async for`.

        Leaving the loop cancels what is under way.
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
        """Answer one question by several strategies, as `AsyncCoLM.compare`; for `for` and for `async for`."""
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
        fresh: bool = False,
        stats: BatchStats | None = None,
        **policy: Any,
    ) -> Stream[Trace]:
        """Answer many questions, as `AsyncCoLM.batch`; for `for` and for `async for`.

        Leaving the loop early lets the calls under way finish, and makes no others.
        """
        names = strategy if strategy is None or isinstance(strategy, str) else list(strategy)
        return self._stream(
            lambda: self._engine.batch(
                source, out, strategy=names, concurrency=concurrency, limit=limit, fresh=fresh, stats=stats, **policy
            )
        )

    def plan(
        self, source: Source, *, strategy: str | Iterable[str] | None = None, limit: int | None = None, **policy: Any
    ) -> Plan:
        """What `batch` would do: how many calls of whom, and about how many tokens. Nothing is called."""
        return self._running().run(lambda: self._engine.plan(source, strategy=strategy, limit=limit, **policy))

    def check(self) -> Sequence[Health]:
        """Ask every member for a word, with a tiny picture where it should see, and tell what works."""
        return self._running().run(self._engine.check)

    def close(self) -> None:
        """Release models and connections. A closed `CoLM` cannot be asked again; closing twice is harmless.

        What is under way in other threads is cancelled, and raises `RuntimeError` there.
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
        start()  # begins nothing; what is wrong with the arguments is raised here, not at the first item
        return Stream(self._running, start)

    def _running(self) -> Portal:
        with self._lock:
            if self._closed:
                raise RuntimeError("this CoLM is closed")
            self._portal = self._portal or Portal(self._engine.aclose)
            return self._portal
