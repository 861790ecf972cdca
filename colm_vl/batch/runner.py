"""Answers many questions concurrently, yields traces in order, and stores them so that the run can be resumed."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio

from colm_vl.backend_pool import BackendPool
from colm_vl.batch.folder import Folder, Key
from colm_vl.batch.pictures import Pictures
from colm_vl.batch.questions import Questions, Row
from colm_vl.batch.scheduling import ModelSchedule, Postponed, StrategyCalls
from colm_vl.batch.settings import Settings
from colm_vl.batch.stats import Account, BatchStats
from colm_vl.errors import ColmError, InputError
from colm_vl.run import Run
from colm_vl.store import MemoryStore
from colm_vl.strategies import Choice
from colm_vl.team import Member, Team
from colm_vl.types import Failure, Trace
from processors.errors import ImageError

logger = logging.getLogger(__name__)

GRACE_SECONDS = 8.0
"""How long running calls may take to finish when a batch is left early, so that their results are kept."""
SYNC_SECONDS = 1.0
"""Interval between syncs to disk: the amount of work that a power failure can lose."""
_LOOK_AHEAD = 4  # times the concurrency: how far other questions can get ahead of a slow one


@dataclass(frozen=True, slots=True)
class Job:
    """The input of a batch. Without `out`, nothing is left on disk."""

    team: Team
    choices: Sequence[Choice]
    questions: Questions
    out: Path | None = None
    concurrency: int = 16
    fresh: bool = False
    stats: BatchStats = field(default_factory=BatchStats)

    @property
    def strategies(self) -> Sequence[str]:
        return [choice.team.policy.strategy for choice in self.choices]


async def traces(job: Job, pool: BackendPool) -> AsyncGenerator[Trace, None]:
    """Yield one trace for each question and strategy, in the order of the questions, including those of earlier runs.

    If the questions or the folder cannot be used, `InputError` is raised before any call is made. If the generator is
    closed early, running calls have `GRACE_SECONDS` to finish.
    """
    survey = await asyncio.to_thread(job.questions.survey)
    job.stats.total = survey.total * len(job.choices) if survey else None
    await _connect(job.choices, pool)
    async with _opened(job) as folder:
        batch = Batch(job, pool, folder)
        try:
            async with _synced(folder) as syncing, aclosing(batch.traces()) as found:
                async for trace in found:
                    if syncing.done():
                        syncing.result()
                    yield trace
        finally:
            with anyio.CancelScope(shield=True):
                await _close(folder, batch)


async def _close(folder: Folder, batch: Batch) -> None:
    close = partial(folder.close, batch.order, complete=batch.complete)
    if sys.is_finalizing() or not threading.main_thread().is_alive():
        close()  # the interpreter is shutting down and cannot start threads
    else:
        await asyncio.to_thread(close)


@asynccontextmanager
async def _opened(job: Job) -> AsyncGenerator[Folder, None]:
    """The batch's folder. Without `out`, it is a temporary one."""
    async with AsyncExitStack() as stack:
        path = job.out
        if path is None:
            # Not a `TemporaryDirectory`: at interpreter shutdown it would be removed before the batch has ended.
            path = Path(tempfile.mkdtemp(prefix="colm-vl-"))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
        settings = Settings.of(job.team, job.strategies, job.questions.name)
        yield await asyncio.to_thread(Folder, path, settings, fresh=job.fresh, notes=job.stats.notes)


@asynccontextmanager
async def _synced(folder: Folder) -> AsyncGenerator[asyncio.Task[None], None]:
    """Sync the folder to disk periodically, in a task. The task only ends early if it raises `ColmError`."""
    over = asyncio.Event()
    syncing = asyncio.create_task(_sync_often(folder, over))
    try:
        yield syncing
    finally:
        over.set()
        with anyio.CancelScope(shield=True):
            await asyncio.wait([syncing])
        syncing.result()


async def _sync_often(folder: Folder, over: asyncio.Event) -> None:
    while not over.is_set():
        try:
            await asyncio.wait_for(over.wait(), SYNC_SECONDS)
        except TimeoutError:
            await asyncio.to_thread(folder.sync)


async def _connect(choices: Sequence[Choice], pool: BackendPool) -> None:
    """Connect all endpoints, so that an error such as a missing key is raised once, not for every question."""
    for choice in choices:
        team = choice.team
        alone = team.policy.asker if choice.strategy.one_client else None
        clients = [team.client(alone)] if alone else team.clients
        server = [team.server] if team.server and choice.strategy.needs_server else []
        for member in (*clients, *server):
            if not member.options.in_process:
                async with pool.use(member):
                    pass


@dataclass(frozen=True, slots=True)
class _Outcome:
    """`kept`: the answer is from an earlier run. `written`: the folder already contains this trace."""

    trace: Trace
    kept: bool = False
    written: bool = False


class Batch:
    """A running job. `order` are the keys of the questions read so far; `complete`: these are all questions."""

    def __init__(self, job: Job, pool: BackendPool, folder: Folder) -> None:
        self.order: list[Key] = []
        self.complete = False
        self._job = job
        self._pool = pool
        self._folder = folder
        self._stats = job.stats
        self._pictures = Pictures()
        self._schedule = _schedule(job.team, pool)
        # Later passes of the same batch do not retry failed calls.
        folder.journal.keep_failures = self._schedule.staged
        self._accounts: dict[str, Account] = {}  # of questions that wait for another pass
        self._ended: set[Key] = set()

    async def traces(self) -> AsyncGenerator[Trace, None]:
        passes = self._stage_by_stage if self._schedule.staged else self._in_one_go
        async with aclosing(passes()) as found:
            async for trace in found:
                yield trace

    async def _in_one_go(self) -> AsyncGenerator[Trace, None]:
        async with aclosing(self._go_over(self._job.questions)) as outcomes:
            async for outcome in outcomes:
                yield outcome.trace

    async def _stage_by_stage(self) -> AsyncGenerator[Trace, None]:
        """Make several passes over the questions, each making only the calls of models that are loaded."""
        questions, told, more = self._job.questions.repeatable(), 0, True
        while more:
            self.order.clear()
            self.complete = False
            async with aclosing(self._go_over(questions)) as outcomes:
                async for outcome in outcomes:
                    self._ended.add(Key(outcome.trace.id, outcome.trace.strategy))
            while told < len(self.order) and self.order[told] in self._ended:
                yield self._folder.trace(self.order[told])
                told += 1
            more = await self._schedule.next_turn(self._pool)

    async def _go_over(self, questions: Questions) -> AsyncGenerator[_Outcome, None]:
        """Attempt each question, `concurrency` at a time, and yield the outcomes in the order of the questions."""
        rows, more = iter(questions), True
        window: deque[asyncio.Task[Sequence[_Outcome]]] = deque()
        try:
            while True:
                while more and self._has_place(window):
                    more = self._begin(rows, window)
                if not window:
                    self.complete = not self._job.questions.limited
                    return
                if not window[0].done():
                    under_way = [task for task in window if not task.done()]
                    await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                    continue
                for outcome in self._recorded(window.popleft().result()):
                    yield outcome
        finally:
            await self._wind_up(window)

    def _has_place(self, window: deque[asyncio.Task[Sequence[_Outcome]]]) -> bool:
        concurrency = self._job.concurrency
        return len(window) < _LOOK_AHEAD * concurrency and sum(not task.done() for task in window) < concurrency

    def _begin(self, rows: Iterator[Row], window: deque[asyncio.Task[Sequence[_Outcome]]]) -> bool:
        row = next(rows, None)
        if row is None:
            return False
        self.order += [Key(row.id, strategy) for strategy in self._job.strategies]
        window.append(asyncio.create_task(self._attempt(row)))
        return True

    def _recorded(self, outcomes: Sequence[_Outcome]) -> Sequence[_Outcome]:
        for outcome in outcomes:
            if not outcome.written:
                self._folder.record(outcome.trace)
            if outcome.kept:
                self._stats.kept += 1
            else:
                self._stats.count(outcome.trace)
        return outcomes

    async def _wind_up(self, window: deque[asyncio.Task[Sequence[_Outcome]]]) -> None:
        """Let running calls finish, make no others, and record their outcomes."""
        if not window:
            return
        self._schedule.close()
        self._pictures.close()
        with anyio.CancelScope(shield=True):
            await asyncio.wait(window, timeout=GRACE_SECONDS)
            for task in window:
                task.cancel()
            await asyncio.wait(window)
        for task in window:
            if not task.cancelled() and task.exception() is None:
                self._recorded(task.result())

    async def _attempt(self, row: Row) -> Sequence[_Outcome]:
        """Answer one question with all strategies. Those that have to wait for another pass are left out."""
        wanted = {choice.team.policy.strategy: choice for choice in self._job.choices}
        wanted = {strategy: choice for strategy, choice in wanted.items() if Key(row.id, strategy) not in self._ended}
        finished = {} if row.problem else await self._finished(row, list(wanted))
        outcomes = [*finished.values()]
        unanswered = [choice for strategy, choice in wanted.items() if strategy not in finished]
        if not unanswered:
            return outcomes
        try:
            if row.problem:
                raise InputError(row.problem, hint=row.hint)
            query = row.query([await self._pictures.open(picture) for picture in row.pictures])
        except (InputError, ImageError) as error:
            return outcomes + [_Outcome(_refused(row, choice.team, error)) for choice in unanswered]
        memory = MemoryStore(self._folder.journal)
        account = self._accounts.pop(row.id, None) or Account(self._stats)
        for choice in unanswered:
            strategy = choice.team.policy.strategy
            calls = StrategyCalls(strategy, memory, self._schedule, account)
            trace = await _answer(choice, Run(query, choice.team, self._pool, store=calls))
            if trace is None:
                self._accounts[row.id] = account
            else:
                outcomes.append(_Outcome(trace))
        return outcomes

    async def _finished(self, row: Row, strategies: Sequence[str]) -> Mapping[str, _Outcome]:
        """The answers of an earlier run, by strategy, if the question and its pictures have not changed. Their metadata
        is updated."""
        found = {strategy: trace for strategy in strategies if (trace := self._folder.finished(row, strategy))}
        kept = {trace.images for trace in found.values()}  # usually the same for all strategies
        same = {images: await self._pictures.same(row.pictures, images) for images in kept}
        outcomes = {}
        for strategy, trace in found.items():
            if (images := same[trace.images]) is None:
                continue
            if images == trace.images and row.metadata == trace.metadata:
                outcomes[strategy] = _Outcome(trace, kept=True, written=True)
            else:
                updated = replace(trace, images=images, metadata=dict(row.metadata))
                outcomes[strategy] = _Outcome(updated, kept=True)
        return outcomes


def _schedule(team: Team, pool: BackendPool) -> ModelSchedule:
    limit = team.policy.max_loaded
    local: Sequence[Member] = [member for member in team.members if pool.takes_place(member)]
    return ModelSchedule(local, limit) if limit is not None and len(local) > limit else ModelSchedule()


async def _answer(choice: Choice, run: Run) -> Trace | None:
    """The trace, or None if the question has to wait for another pass. Unexpected exceptions fail this question only.
    A `ColmError`, raised if a file cannot be written, ends the batch."""
    try:
        await choice.strategy.run(run)
    except Exception as raised:
        errors = _leaves(raised)
        unwritable = next((e for e in errors if isinstance(e, ColmError) and not isinstance(e, ImageError)), None)
        if unwritable:
            raise unwritable from None
        if any(isinstance(error, Postponed) for error in errors):
            return None
        logger.exception("question %r", run.query.id)
        run.record(Failure(None, "settle", "error", f"unexpected {type(errors[0]).__name__}"))
    return run.trace()


def _refused(row: Row, team: Team, error: InputError | ImageError) -> Trace:
    return Trace(
        row.question,
        team.policy.strategy,
        row.id,
        row.choices,
        members=team.infos,
        failures=(Failure(None, "select", error.kind, f"{row.where}: {error}", error.hint),),
        metadata=dict(row.metadata),
    )


def _leaves(error: Exception) -> Sequence[Exception]:
    if isinstance(error, ExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
    return [error]
