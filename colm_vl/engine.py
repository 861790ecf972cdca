"""`AsyncCoLM`: a team that answers single questions and batches on the caller's event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import PIL.Image

from colm_vl._following import follow
from colm_vl.backend_pool import BackendPool
from colm_vl.backends.base import Backend
from colm_vl.batch import BatchStats, Job, Plan, Questions, Source, plan, ready_traces, traces
from colm_vl.batch.executors import RayOptions
from colm_vl.batch.shards import Shard
from colm_vl.errors import ConfigError, InputError, NoAnswer
from colm_vl.events import Event
from colm_vl.health import Health, check_team
from colm_vl.run import Run
from colm_vl.store import CallStore, MemoryStore
from colm_vl.strategies import Choice, choose, known
from colm_vl.team import Team
from colm_vl.types import Query, Trace
from processors.images import Image, ImageSource

Images: TypeAlias = "Iterable[ImageSource] | ImageSource | None"


class AsyncCoLM:
    """A team that answers questions. Models are loaded and connections opened at first use; `aclose` releases them.

    An instance belongs to the event loop in which it is first used. `backends` replaces the backends of members, by
    member name, with your own objects that implement `colm_vl.Backend`.

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
        """Load a team file, or the pocket team if `path` is None. `policy` overrides fields of the team's policy.

        Raises `ConfigError` if the file or a field is invalid.
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

        `images` are paths, bytes, data URIs, PIL images or open files. `policy` overrides fields of the team's policy
        for this question (`strategy="vote"`, `rounds=2`, `asker="charts"`).

        Raises `InputError` or `ImageError` for an invalid question or picture, `ConfigError` for an invalid policy,
        and `NoAnswer`, with the trace, if there is no answer. If only some members fail, nothing is raised; the
        failures are in `trace.failures`.
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
        """Ask one question and yield its events as they happen.

        The last event is the `Trace`. If there is no answer, `trace.answer` is empty; `NoAnswer` is not raised.
        Closing the generator cancels the question.
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
        """Answer one question with several strategies and yield one trace for each. Calls that strategies have in
        common, such as drafts, are made once."""
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
        columns: Mapping[str, str] | None = None,
        shard: str | None = None,
        ray: RayOptions | str | None = None,
        fresh: bool = False,
        stats: BatchStats | None = None,
        **policy: Any,
    ) -> AsyncGenerator[Trace, None]:
        """Answer many questions concurrently; traces are yielded in the order of the questions.

        `source` is a JSONL, CSV, TSV or Parquet file, a folder that `datasets` wrote with `save_to_disk`, or an
        iterable of `Query`. `columns` maps the fields id, question, image, images and choices to columns of the file
        that have other names: `{"question": "query"}`. `strategy` can name several strategies, as
        `"solo,vote,colm"` or as a sequence: each question then has one trace for each, and common calls are made once.
        A question that fails gives a trace without an answer and does not stop the batch.

        `out` is a folder for calls, traces and answers. To resume an interrupted batch, run it again with the same
        folder: finished calls are not repeated, and failed questions are retried. If the folder was made with other
        questions, clients or another policy, `InputError` is raised; with `fresh`, its content is moved aside and the
        batch starts over. If the server or a prompt has changed, only the calls affected are made again.
        `concurrency` is the number of questions processed at the same time. `stats` is updated while the batch runs.

        `shard`, such as `"3/16"`, answers one of 16 parts of the questions, which can run at the same time on several
        machines, with one folder or with several; `merge_shards` joins their answers.

        `ray` is the address of a Ray cluster, such as `"auto"`, or `RayOptions`: its workers answer the questions, up
        to `concurrency` each at the same time, while this process writes the folder. Needs the extra `ray`.
        """
        job = self._job(
            source,
            out,
            strategy=strategy,
            concurrency=concurrency,
            limit=limit,
            columns=columns,
            shard=shard,
            ray=ray,
            fresh=fresh,
            stats=stats,
            **policy,
        )
        return traces(job, self._pool)

    async def plan(
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
        chosen = self._choose_all(strategy, policy)
        return await plan(_questions(source, limit, columns, shard), chosen)

    async def check(self, on_result: Callable[[Health], None] | None = None) -> Sequence[Health]:
        """Ask every member an easy question, about a tiny picture unless it takes none, and report what works.

        `on_result` is called with each member's result as soon as it is known.
        """
        self._check_open()
        return await check_team(self.team, self._pool, on_result)

    async def load(self) -> None:
        """Load the local models now, not at their first calls. Does nothing for endpoints, or if local models take
        turns in memory. Raises `LoadFailed`."""
        self._check_open()
        await self._pool.load(self.team.members)

    async def aclose(self) -> None:
        """Release models and connections. Running questions fail. Can be called more than once."""
        self._closed = True
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # --- arguments ---

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

    def _job(
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
    ) -> Job:
        """The arguments of `batch`, checked."""
        self._check_open()
        chosen, questions = self._choose_all(strategy, policy), _questions(source, limit, columns, shard)
        if shard and fresh:
            raise ConfigError("a shard cannot start over: the others use the same folder", hint="choose another folder")
        if concurrency < 1:
            raise ConfigError(f"concurrency is {concurrency}, expected at least 1")
        folder = Path(out) if out is not None else None
        options = RayOptions(ray) if isinstance(ray, str) else ray
        team = self.team.with_policy(**policy) if policy else self.team
        most, wanted = self.team.policy.max_loaded, team.policy.max_loaded
        if most is not None and (wanted is None or wanted > most):
            hint = "a batch can only lower it: raise it in the team file or with CoLM.from_team(…, max_loaded=…)"
            raise ConfigError(f"max_loaded is {wanted} for this batch, and {most} for the team", hint=hint)
        return Job(team, chosen, questions, folder, concurrency, fresh, stats or BatchStats(), options)

    # --- execution ---

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this CoLM is closed")

    async def _query(self, question: str | Query, images: Images, choices: Iterable[str] | None) -> Query:
        """Pictures are opened, or fetched if that is allowed, in a thread, so that the event loop is not blocked."""
        if images is None or isinstance(question, Query):
            return read_query(question, images, choices)
        return await asyncio.to_thread(read_query, question, images, choices)

    async def _answer(self, query: Query, choice: Choice, store: CallStore | None = None) -> Trace:
        self._check_open()
        run = Run(query, choice.team, self._pool, store=store)
        await choice.strategy.run(run)
        return run.trace()

    def _ready_traces(self, job: Job) -> AsyncGenerator[Sequence[Trace], None]:
        """Like `batch`, but traces that are ready at the same time are yielded together. For `CoLM`."""
        return ready_traces(job, self._pool)

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

        async def answer(emit: Callable[[Event], None]) -> None:
            run = Run(query, choice.team, self._pool, emit=emit)
            await choice.strategy.run(run)
            emit(run.trace())

        async with aclosing(follow(answer)) as events:
            async for event in events:
                yield event


def answered(trace: Trace) -> Trace:
    """Return the trace if it has an answer, or else raise `NoAnswer` with all failures in its message."""
    if trace.settlement is not None:
        return trace
    distinct = dict.fromkeys(f"{failure.message} ({failure.stage})" for failure in trace.failures)
    failures = "; ".join(distinct)
    hint = next((failure.hint for failure in trace.failures if failure.hint), "")
    raise NoAnswer(f"no answer: {failures or 'no reply could be read'}", hint=hint, trace=trace)


def read_query(question: str | Query, images: Images, choices: Iterable[str] | None) -> Query:
    """A `Query` with opened pictures. Raises `InputError` or `ImageError` if the question or a picture is invalid."""
    if isinstance(question, Query):
        for name, given in (("images", images), ("choices", choices)):
            if given is not None and given != ():
                raise InputError(
                    f"{name} are given, but the Query has its own",
                    hint=f"pass them to the Query: Query(…, {name}=…)",
                )
        return question
    if isinstance(choices, str):
        raise InputError(f"choices is the text {choices!a}, expected a list of texts", hint='such as ["yes", "no"]')
    return Query(question, tuple(Image.open(image) for image in _listed(images)), tuple(choices or ()))


def _questions(source: Source, limit: int | None, columns: Mapping[str, str] | None, shard: str | None) -> Questions:
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}, expected at least 1", hint="leave it out for all questions")
    return Questions(source, limit=limit, columns=columns, shard=Shard.read(shard) if shard else None)


def _listed(images: Images) -> Iterable[ImageSource]:
    """A single picture becomes a list of one; a path must not be iterated over as characters."""
    if images is None:
        return ()
    if isinstance(images, (str, bytes, bytearray, memoryview, os.PathLike, PIL.Image.Image, Image)):
        return [images]
    if not isinstance(images, Iterable) or hasattr(images, "read"):
        # An open file, or a value that `Image.open` refuses with a clear message.
        return [cast("ImageSource", images)]
    return images
