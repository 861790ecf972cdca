"""`AsyncCoLM`: a team that can be asked, one question at a time or many, on the caller's event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import anyio
import PIL.Image

from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Backend
from colm_vl.batch import BatchStats, Job, Plan, Questions, Source, plan, traces
from colm_vl.errors import ConfigError, InputError, NoAnswer
from colm_vl.health import Health, check_team
from colm_vl.run import Run
from colm_vl.store import CallStore, MemoryStore
from colm_vl.strategies import Choice, choose, known
from colm_vl.team import Team
from colm_vl.types import Event, Query, Trace
from processors.images import Image, ImageSource

Images: TypeAlias = "Iterable[ImageSource] | ImageSource | None"


class AsyncCoLM:
    """A team at work. Models are loaded, and connections made, when they are first needed; `aclose` releases them.

    It belongs to the event loop in which it is first asked. `backends` puts objects of your own in the place of
    members, by name: whatever has the methods of `backends.base.Backend`.

        async with AsyncCoLM.from_team("team.toml") as colm:
            trace = await colm.ask("What is the total in the chart?", images=["q3.png"])
    """

    def __init__(self, team: Team, *, backends: Mapping[str, Backend] | None = None) -> None:
        self.team = team
        choose(team)
        self._pool = BackendPool(backends, max_loaded=team.policy.max_loaded)
        self._closed = False

    @classmethod
    def from_team(cls, path: str | Path | None = None, **policy: Any) -> Self:
        """From a team file, or without one the pocket team. `policy` changes fields of its policy.

        Raises `ConfigError` for a file or a field that is wrong.
        """
        team = Team.load(path) if path is not None else Team.pocket()
        return cls(team.with_policy(**policy) if policy else team)

    async def ask(
        self,
        question: str | Query,
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> Trace:
        """Ask one question and wait for the answer.

        `images` are paths, bytes, data URIs, PIL images or open files. `policy` changes fields of the team's policy
        for this question (`strategy="vote"`, `rounds=2`, `asker="charts"`). Raises `InputError` or `ImageError` for a
        question that cannot be asked, `ConfigError` for a policy that cannot be followed, and `NoAnswer`, with the
        trace, if no member could answer; members that fail beside others that answer are in `trace.failures`.
        """
        choice = self._choose_for_one(policy)
        return answered(await self._answer(await self._query(question, images, choices), choice))

    def stream(
        self,
        question: str | Query,
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> AsyncGenerator[Event, None]:
        """Ask one question and see everything as it happens.

        The last event is the `Trace`; one without an answer is told by `trace.answer` being empty, and nothing raises.
        Closing the generator cancels what is under way.
        """
        return self._events(question, images, choices, self._choose_for_one(policy))

    def compare(
        self,
        question: str | Query,
        strategies: Iterable[str],
        images: Images = None,
        *,
        choices: Iterable[str] | None = None,
        **policy: Any,
    ) -> AsyncGenerator[Trace, None]:
        """Answer one question by several strategies, one trace each, paying for what they share, the drafts, once."""
        chosen = [self._choose_for_one(policy | {"strategy": name}) for name in strategies]
        return self._compare(question, images, choices, chosen)

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
    ) -> AsyncGenerator[Trace, None]:
        """Answer many questions; the traces come in the order of the questions.

        `source` is a JSONL, CSV or Parquet file, or an iterable of `Query`. `strategy` may be several, as
        `"solo,vote,colm"` or a sequence: then there is one trace for each, and drafts are paid for once. A question
        without an answer is a trace without one, and stops no other.

        `out` is a folder for calls, traces and answers. The same batch into the same folder goes on where the last one
        ended, however it ended; nothing that is finished is called again, and questions that failed are tried again.
        A folder made with other questions, clients or policy raises `InputError`; `fresh` puts what is there aside and
        starts anew. A changed server or prompt voids only its own calls. `stats` is kept up to date.
        """
        chosen, questions = self._choose_all(strategy, policy), _questions(source, limit)
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}, expected at least 1")
        folder = Path(out) if out is not None else None
        team = self.team.with_policy(**policy) if policy else self.team
        self._check_open()
        return traces(Job(team, chosen, questions, folder, concurrency, fresh, stats or BatchStats()), self._pool)

    async def plan(
        self, source: Source, *, strategy: str | Iterable[str] | None = None, limit: int | None = None, **policy: Any
    ) -> Plan:
        """What `batch` would do: how many calls of whom, and about how many tokens. Nothing is called."""
        chosen = self._choose_all(strategy, policy)
        return await plan(_questions(source, limit), chosen)

    async def check(self) -> Sequence[Health]:
        """Ask every member for a word, with a tiny picture where it should see, and tell what works."""
        self._check_open()
        return await check_team(self.team, self._pool)

    async def aclose(self) -> None:
        """Release models and connections. What is still being asked fails; closing twice is harmless."""
        self._closed = True
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- what to do ---

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
            raise ConfigError("no strategy is named", hint=f"one or several of: {', '.join(known())}")
        return [self._choose({**policy, "strategy": name}) for name in wanted]

    # --- doing it ---

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this CoLM is closed")

    async def _query(self, question: str | Query, images: Images, choices: Iterable[str] | None) -> Query:
        """Pictures are opened, and fetched where that is allowed, beside the event loop."""
        if images is None or isinstance(question, Query):
            return read_query(question, images, choices)
        return await asyncio.to_thread(read_query, question, images, choices)

    async def _answer(self, query: Query, choice: Choice, store: CallStore | None = None) -> Trace:
        self._check_open()
        run = Run(query, choice.team, self._pool, store=store)
        await choice.strategy.run(run)
        return run.trace()

    async def _compare(
        self, question: str | Query, images: Images, choices: Iterable[str] | None, chosen: Sequence[Choice]
    ) -> AsyncGenerator[Trace, None]:
        query, store = await self._query(question, images, choices), MemoryStore()
        for choice in chosen:
            yield await self._answer(query, choice, store)

    async def _events(
        self, question: str | Query, images: Images, choices: Iterable[str] | None, choice: Choice
    ) -> AsyncGenerator[Event, None]:
        query = await self._query(question, images, choices)
        self._check_open()
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
            with anyio.CancelScope(shield=True):
                await asyncio.wait([task])


def answered(trace: Trace) -> Trace:
    """The trace, if it has an answer; else raises `NoAnswer` that tells every failure."""
    if trace.settlement is not None:
        return trace
    told = dict.fromkeys(f"{failure.message} ({failure.stage})" for failure in trace.failures)  # each reason once
    failures = "; ".join(told)
    hint = next((failure.hint for failure in trace.failures if failure.hint), "")
    raise NoAnswer(f"no answer: {failures or 'nothing readable was written'}", hint=hint, trace=trace)


def read_query(question: str | Query, images: Images, choices: Iterable[str] | None) -> Query:
    """The question with its pictures opened. Raises `InputError` or `ImageError` for one that cannot be asked."""
    if isinstance(question, Query):
        for name, given in (("images", images), ("choices", choices)):
            if given is not None and given != ():
                raise InputError(
                    f"{name} are given beside a Query, which has its own",
                    hint=f"make them part of it: Query(…, {name}=…)",
                )
        return question
    if isinstance(choices, str):
        raise InputError(f"choices is the text {choices!a}, expected a list of texts", hint='such as ["yes", "no"]')
    return Query(question, tuple(Image.open(image) for image in _listed(images)), tuple(choices or ()))


def _questions(source: Source, limit: int | None) -> Questions:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}, expected at least 1", hint="leave it out for all questions")
    return Questions(source, limit=limit)


def _listed(images: Images) -> Iterable[ImageSource]:
    """One picture in place of a list of pictures is meant as such: a path would else be taken apart into letters."""
    if images is None:
        return ()
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, PIL.Image.Image, Image)):
        return [images]
    if not isinstance(images, Iterable) or hasattr(images, "read"):
        # An open file, or something else that `Image.open` refuses by name.
        return [cast("ImageSource", images)]
    return images
