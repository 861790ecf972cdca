"""`CoLM`: a team that can be asked, one question at a time or many."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import PIL.Image

from colm_vl._loop import LoopThread, Stream
from colm_vl.backends.base import Backend
from colm_vl.batch import Job, Plan, Questions, Source, Tally, plan, traces
from colm_vl.check import Health, check_team
from colm_vl.errors import ConfigError, NoAnswer
from colm_vl.pool import Pool
from colm_vl.run import Run
from colm_vl.store import CallStore, MemoryStore
from colm_vl.strategies import STRATEGIES, Choice, choose
from colm_vl.team import Team
from colm_vl.types import Event, Query, Trace
from processors.images import Image, ImageSource


class CoLM:
    """A team at work. Models are loaded, and connections made, when they are first needed; `close` lets go of them.

    Every method may be called from any thread, and from code that runs in an event loop already. `backends` puts
    objects of your own in the place of members, by name: whatever has the methods of `backends.base.Backend`.

        with CoLM.from_team("team.toml") as colm:
            print(colm.ask("What is the total in the chart?", images=["q3.png"]).answer)
    """

    def __init__(self, team: Team, *, backends: Mapping[str, Backend] | None = None) -> None:
        self.team = team
        choose(team)
        self._pool = Pool(backends, max_loaded=team.policy.max_loaded)
        self._loop: LoopThread | None = None
        self._closed = False
        self._lock = threading.Lock()

    @classmethod
    def from_team(cls, path: str | Path | None = None, **policy: Any) -> CoLM:
        """From a team file, or without one the pocket team. `policy` changes fields of its policy.

        Raises `ConfigError` for a file or a field that is wrong.
        """
        team = Team.load(path) if path is not None else Team.pocket()
        return cls(team.with_policy(**policy) if policy else team)

    def ask(
        self,
        question: str | Query,
        images: Iterable[ImageSource] = (),
        *,
        choices: Iterable[str] = (),
        **policy: Any,
    ) -> Trace:
        """Ask one question and wait for the answer.

        `images` are paths, bytes, data URIs, PIL images or open files. `policy` changes fields of the team's policy
        for this question (`strategy="vote"`, `rounds=2`, `asker="charts"`). Raises `InputError` or `ImageError` for a
        question that cannot be asked, `ConfigError` for a policy that cannot be followed, and `NoAnswer`, with the
        trace, if no member could answer; members that fail beside others that answer are in `trace.failures`.
        """
        return self._running().run(self._ask(_query(question, images, choices), policy))

    async def aask(
        self,
        question: str | Query,
        images: Iterable[ImageSource] = (),
        *,
        choices: Iterable[str] = (),
        **policy: Any,
    ) -> Trace:
        """As `ask`, for a caller in an event loop."""
        return await self._running().arun(self._ask(_query(question, images, choices), policy))

    def stream(
        self,
        question: str | Query,
        images: Iterable[ImageSource] = (),
        *,
        choices: Iterable[str] = (),
        **policy: Any,
    ) -> Stream[Event]:
        """Ask one question and see everything as it happens; for `for` and for `async for`.

        The last event is the `Trace`; one without an answer is told by `trace.answer` being empty, and nothing raises.
        Leaving the loop cancels what is under way.
        """
        query, choice = _query(question, images, choices), self._choose_for_one(policy)
        return Stream(self._running, lambda: self._events(query, choice))

    def compare(
        self,
        question: str | Query,
        strategies: Iterable[str],
        images: Iterable[ImageSource] = (),
        *,
        choices: Iterable[str] = (),
        **policy: Any,
    ) -> Stream[Trace]:
        """Answer one question by several strategies, one trace each, paying for what they share, the drafts, once."""
        query = _query(question, images, choices)
        chosen = [self._choose_for_one(policy | {"strategy": name}) for name in strategies]
        return Stream(self._running, lambda: self._compare(query, chosen))

    def batch(
        self,
        source: Source,
        out: str | Path | None = None,
        *,
        strategy: str | Iterable[str] | None = None,
        concurrency: int = 16,
        limit: int | None = None,
        fresh: bool = False,
        tally: Tally | None = None,
        **policy: Any,
    ) -> Stream[Trace]:
        """Answer many questions; the traces come in the order of the questions, for `for` and for `async for`.

        `source` is a JSONL, CSV or Parquet file, or an iterable of `Query`. `strategy` may be several, as
        `"solo,vote,colm"` or a sequence: then there is one trace for each, and drafts are paid for once. A question
        without an answer is a trace without one, and stops no other.

        `out` is a folder for calls, traces and answers. The same batch into the same folder goes on where the last one
        ended, however it ended; nothing that is finished is called again, and questions that failed are tried again.
        A folder made with other questions, clients, prompts or policy raises `InputError`; `fresh` puts what is there
        aside and starts anew. A changed server is no hindrance: what was drafted stands. `tally` is kept up to date.
        """
        chosen, questions = self._choose_all(strategy, policy), Questions(source, limit=limit)
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}, expected at least 1")
        folder = Path(out) if out is not None else None
        team = self.team.with_policy(**policy) if policy else self.team
        job = Job(team, chosen, questions, folder, concurrency, fresh, tally or Tally())
        return Stream(self._running, lambda: traces(job, self._pool))

    def plan(
        self, source: Source, *, strategy: str | Iterable[str] | None = None, limit: int | None = None, **policy: Any
    ) -> Plan:
        """What `batch` would do: how many calls of whom, and about how many tokens. Nothing is called."""
        chosen, questions = self._choose_all(strategy, policy), Questions(source, limit=limit)
        return self._running().run(plan(questions, chosen))

    def check(self) -> Sequence[Health]:
        """Ask every member for one token, with a tiny picture where it should see, and tell what works."""
        return self._running().run(check_team(self.team, self._pool))

    def close(self) -> None:
        """Let go of models and connections. A closed `CoLM` cannot be asked again; closing twice is fine.

        What is under way in other threads is cancelled, and raises `RuntimeError` there.
        """
        with self._lock:
            self._closed = True
            loop, self._loop = self._loop, None
        if loop is not None and not loop.forked:
            try:
                loop.end_work()
                loop.finish(self._pool.aclose())
            finally:
                loop.close()

    async def aclose(self) -> None:
        await asyncio.to_thread(self.close)

    def __enter__(self) -> CoLM:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> CoLM:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _running(self) -> LoopThread:
        with self._lock:
            if self._closed:
                raise RuntimeError("this CoLM is closed")
            self._loop = self._loop or LoopThread(self._pool.aclose)
            return self._loop

    def _choose(self, policy: Mapping[str, Any]) -> Choice:
        return choose(self.team.with_policy(**policy) if policy else self.team)

    def _choose_for_one(self, policy: Mapping[str, Any]) -> Choice:
        if policy.get("max_loaded", self.team.policy.max_loaded) != self.team.policy.max_loaded:
            hint = "set it in the team file, with CoLM.from_team(…, max_loaded=…), or for a batch"
            raise ConfigError("max_loaded cannot be changed for one question", hint=hint)
        return self._choose(policy)

    def _choose_all(self, strategy: str | Iterable[str] | None, policy: Mapping[str, Any]) -> Sequence[Choice]:
        if strategy is None:
            return [self._choose(policy)]
        names = strategy.split(",") if isinstance(strategy, str) else strategy
        wanted = dict.fromkeys(name.strip() for name in names)
        if not wanted:
            raise ConfigError("no strategy is named", hint=f"one or several of: {', '.join(STRATEGIES)}")
        return [self._choose({**policy, "strategy": name}) for name in wanted]

    async def _ask(self, query: Query, policy: Mapping[str, Any]) -> Trace:
        return answered(await self._answer(query, self._choose_for_one(policy)))

    async def _answer(self, query: Query, choice: Choice, store: CallStore | None = None) -> Trace:
        run = Run(query, choice.team, self._pool, store=store)
        await choice.strategy.run(run)
        return run.trace()

    async def _compare(self, query: Query, chosen: Iterable[Choice]) -> AsyncGenerator[Trace, None]:
        store = MemoryStore()
        for choice in chosen:
            yield await self._answer(query, choice, store)

    async def _events(self, query: Query, choice: Choice) -> AsyncGenerator[Event, None]:
        events: asyncio.Queue[Event | None] = asyncio.Queue()
        run = Run(query, choice.team, self._pool, emit=events.put_nowait)
        task = asyncio.ensure_future(choice.strategy.run(run))
        task.add_done_callback(lambda _: events.put_nowait(None))
        try:
            while (event := await events.get()) is not None:
                yield event
            await task
            yield run.trace()
        finally:
            task.cancel()
            await asyncio.wait([task])


def answered(trace: Trace) -> Trace:
    """The trace, if it has an answer; else raises `NoAnswer` that tells every failure."""
    if trace.settlement is not None:
        return trace
    told = dict.fromkeys(f"{failure.message} ({failure.stage})" for failure in trace.failures)  # each reason once
    failures = "; ".join(told)
    hint = next((failure.hint for failure in trace.failures if failure.hint), "")
    raise NoAnswer(f"no answer: {failures or 'nothing readable was written'}", hint=hint, trace=trace)


def _query(question: str | Query, images: Iterable[ImageSource], choices: Iterable[str]) -> Query:
    if isinstance(question, Query):
        return question
    opened = tuple(Image.open(image) for image in _listed(images))
    return Query(question, opened, tuple(choices))


def _listed(images: Iterable[ImageSource] | ImageSource) -> Iterable[Any]:
    """One picture in place of a list of pictures is meant as such: a path would else be taken apart into letters."""
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, PIL.Image.Image, Image)):
        return [images]
    return [images] if hasattr(images, "read") else images
