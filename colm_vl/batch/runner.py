"""Answers many questions concurrently, yields traces in order, and stores them so that the run can be resumed."""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from colm_vl.backend_pool import BackendPool
from colm_vl.batch.answering import Answering, Outcome
from colm_vl.batch.cancellation import in_thread, wait_until_done
from colm_vl.batch.executors import Executor, RayOptions, Work, executor
from colm_vl.batch.folder import Folder
from colm_vl.batch.heads import Key
from colm_vl.batch.questions import Questions, Row
from colm_vl.batch.rows import RowReader
from colm_vl.batch.scheduling import ModelSchedule
from colm_vl.batch.settings import Settings
from colm_vl.batch.shards import Progress
from colm_vl.batch.stats import BatchStats
from colm_vl.strategies import Choice
from colm_vl.team import Team
from colm_vl.types import Trace

GRACE_SECONDS = 8.0
"""How long running calls may take to finish when a batch is left early, so that their results are kept."""
SYNC_SECONDS = 1.0
"""Interval between syncs to disk: the amount of work that a power failure can lose."""
_TOGETHER = 64
"""How many traces are passed on at the same time if they are ready: each step to another thread takes a while."""
_LOOK_AHEAD = 4  # times the concurrency: how far other questions can get ahead of a slow one


@dataclass(frozen=True, slots=True)
class Job:
    """The input of a batch. Without `out`, nothing is left on disk. `ray`: it is answered by a Ray cluster."""

    team: Team
    choices: Sequence[Choice]
    questions: Questions
    out: Path | None = None
    concurrency: int = 16
    fresh: bool = False
    stats: BatchStats = field(default_factory=BatchStats)
    ray: RayOptions | None = None

    @property
    def strategies(self) -> Sequence[str]:
        return [choice.team.policy.strategy for choice in self.choices]


async def traces(job: Job, pool: BackendPool) -> AsyncGenerator[Trace, None]:
    """Yield one trace for each question and strategy, in the order of the questions, including those of earlier runs.

    If the questions or the folder cannot be used, `InputError` is raised before any call is made. If the generator is
    closed early or its reader is cancelled, running calls have `GRACE_SECONDS` to finish; another cancellation cancels
    them. In all cases, the folder is closed after they have ended, and before the generator ends.
    """
    async with _BatchTask(job, pool) as batch:
        while ready := await batch.take():
            for trace in ready:
                yield trace


async def ready_traces(job: Job, pool: BackendPool) -> AsyncGenerator[Sequence[Trace], None]:
    """Like `traces`, but traces that are ready at the same time are yielded together."""
    async with _BatchTask(job, pool) as batch:
        while ready := await batch.take():
            yield ready


class _BatchTask:
    """Runs a batch in a task of its own and hands its traces to a reader.

    Up to `concurrency` traces can wait for the reader, so a slow reader slows the batch down. A task is used instead of
    nested generators, because each of those can be closed on its own, by the garbage collector or at the end of an
    event loop, while another one is using it.
    """

    def __init__(self, job: Job, pool: BackendPool) -> None:
        self._traces: asyncio.Queue[Trace | None] = asyncio.Queue()
        self._places = asyncio.Semaphore(job.concurrency)
        self._running = asyncio.create_task(_run(job, pool, self._put), name="colm-vl batch")
        self._running.add_done_callback(lambda _: self._traces.put_nowait(None))

    async def take(self) -> Sequence[Trace]:
        """Wait for the next trace and return all that are ready; none at the end. Raises what ended the batch."""
        ready = []
        trace = await self._traces.get()
        while trace is not None:
            ready.append(trace)
            self._places.release()
            if self._traces.empty() and len(ready) < _TOGETHER:
                # Answers of an earlier run are found in two steps of the event loop.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            if self._traces.empty() or len(ready) >= _TOGETHER:
                return ready
            trace = self._traces.get_nowait()
        if ready:
            self._traces.put_nowait(None)
        else:
            self._running.result()  # raises also if the batch was cancelled by someone else
        return ready

    async def _put(self, trace: Trace) -> None:
        await self._places.acquire()
        self._traces.put_nowait(trace)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._running.cancel()
        try:
            await wait_until_done([self._running], self._running.cancel)
        finally:
            if not self._running.cancelled():
                self._running.result()


async def _run(job: Job, pool: BackendPool, emit: Callable[[Trace], Awaitable[None]]) -> None:
    survey = await asyncio.to_thread(job.questions.survey)
    job.stats.total = survey.total * len(job.choices) if survey and survey.exact else None
    async with executor(Work(job.team, job.choices, job.stats), pool, job.ray) as chosen:
        await chosen.connect()
        async with _opened(job, pool, chosen) as batch:
            await batch.run(emit)


@asynccontextmanager
async def _opened(job: Job, pool: BackendPool, chosen: Executor) -> AsyncGenerator[Batch, None]:
    """The batch with its folder, which is temporary if there is no `out`."""
    async with AsyncExitStack() as stack:
        path = job.out
        if path is None:
            # Not a `TemporaryDirectory`: at interpreter shutdown it would be removed before the batch has ended.
            path = Path(tempfile.mkdtemp(prefix="colm-vl-"))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
        schedule = chosen.schedule()
        settings = Settings.of(job.team, job.strategies, job.questions.name)
        work = partial(Folder, path, settings, fresh=job.fresh, notes=job.stats.notes, shard=job.questions.shard)
        opening = asyncio.get_running_loop().run_in_executor(None, work)
        try:
            await wait_until_done([opening])
        finally:  # also if cancelled: an open folder must be closed
            folder = opening.result()
            # Later passes of the same batch do not retry failed calls.
            folder.journal.keep_failures = schedule.staged
            batch = Batch(job, pool, folder, schedule, chosen.answering(folder, schedule))
            stack.push_async_callback(batch.close)
        yield batch


class Batch:
    """A running job. `order` are the keys of the questions read so far; `complete`: these are all questions. `places`
    are the places of a shard's questions in the source."""

    def __init__(
        self, job: Job, pool: BackendPool, folder: Folder, schedule: ModelSchedule, answering: Answering
    ) -> None:
        self.order: list[Key] = []
        self.complete = False
        self.places: dict[str, int] = {}
        self._exhausted = False
        self._job = job
        self._questions = job.questions
        self._pool = pool
        self._folder = folder
        self._stats = job.stats
        self._schedule = schedule
        self._answering = answering
        self._ended: set[Key] = set()
        self._under_way = 0
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        """Set if a question was finished, if rows were read, or if there is an error."""

    async def run(self, emit: Callable[[Trace], Awaitable[None]]) -> None:
        """Answer all questions. `emit` is awaited for each trace in turn."""
        async with self._synced():
            if self._schedule.staged:
                await self._stage_by_stage(emit)
            else:
                await self._go_over(emit)

    async def close(self) -> None:
        """Close the folder, in a thread. This is not interrupted by cancellation."""
        close = partial(self._folder.close, self.order, complete=self.complete, progress=self._progress())
        if sys.is_finalizing() or not threading.main_thread().is_alive():
            close()  # the interpreter is shutting down and cannot start threads
        else:
            await in_thread(close)

    def _progress(self) -> Progress | None:
        """What a shard has read of the source."""
        shard = self._questions.shard
        if shard is None:
            return None
        if not self._exhausted:
            return Progress(self.places)
        return Progress(self.places, self._questions.passed, frozenset({shard}))

    # --- passes over the questions ---

    async def _stage_by_stage(self, emit: Callable[[Trace], Awaitable[None]]) -> None:
        """Make several passes over the questions, each making only the calls of models that are loaded."""

        async def end(trace: Trace) -> None:
            self._ended.add(Key(trace.id, trace.strategy))

        self._questions = self._questions.repeatable()
        told, more = 0, True
        while more:
            self.order.clear()
            self.complete = False
            await self._go_over(end)
            while told < len(self.order) and self.order[told] in self._ended:
                await emit(self._folder.trace(self.order[told]))
                told += 1
            more = await self._schedule.next_turn(self._pool)

    async def _go_over(self, emit: Callable[[Trace], Awaitable[None]]) -> None:
        """Attempt each question, `concurrency` at a time, and emit the traces in the order of the questions."""
        window: deque[asyncio.Future[Sequence[Outcome]]] = deque()
        rows = RowReader(self._questions, self._changed.set)
        try:
            while True:
                if self._error is not None:
                    raise self._error
                while self._has_place(window) and (row := rows.take()) is not None:
                    window.append(self._begin(row))
                if window and window[0].done():
                    for outcome in self._recorded(window.popleft().result()):
                        await emit(outcome.trace)
                elif window or not rows.exhausted:
                    self._changed.clear()
                    await self._changed.wait()
                else:
                    self._exhausted = True
                    self.complete = not self._questions.limited
                    return
        finally:
            rows.close()
            await self._wind_up(window)

    def _has_place(self, window: Sequence[asyncio.Future[Sequence[Outcome]]]) -> bool:
        concurrency = self._job.concurrency * self._answering.workers
        return len(window) < _LOOK_AHEAD * concurrency and self._under_way < concurrency

    def _begin(self, row: Row) -> asyncio.Future[Sequence[Outcome]]:
        self.order += [Key(row.id, strategy) for strategy in self._job.strategies]
        if self._questions.shard is not None:
            self.places[row.id] = row.number
        if (kept := self._answering.kept(row, self._ended)) is not None:
            # Without a task: there may be a million of them.
            known: asyncio.Future[Sequence[Outcome]] = asyncio.get_running_loop().create_future()
            known.set_result(kept)
            return known
        task = asyncio.create_task(self._answering.answer(row, self._ended))
        self._under_way += 1
        task.add_done_callback(self._finish)
        return task

    def _finish(self, task: asyncio.Task[Sequence[Outcome]]) -> None:
        self._under_way -= 1
        self._note_error(task)
        self._changed.set()

    def _note_error(self, task: asyncio.Task[Sequence[Outcome]] | asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = self._error or error
            self._answering.close()
            self._changed.set()

    def _recorded(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        for outcome in outcomes:
            if not outcome.written:
                self._folder.record(outcome.trace)
            if outcome.kept:
                self._stats.kept += 1
            else:
                self._stats.count(outcome.trace)
        return outcomes

    async def _wind_up(self, window: Sequence[asyncio.Future[Sequence[Outcome]]]) -> None:
        """Let running calls finish, make no others, and record their outcomes. If it is cancelled, so are the calls."""
        if not window:
            return
        self._answering.close()

        def cancel() -> None:
            for task in window:
                if isinstance(task, asyncio.Task) and not task.cancelling():
                    task.cancel()

        try:
            await wait_until_done(window, cancel, grace=GRACE_SECONDS)
        finally:
            for task in window:
                if not task.cancelled() and task.exception() is None:
                    self._recorded(task.result())

    # --- the disk ---

    @asynccontextmanager
    async def _synced(self) -> AsyncGenerator[None, None]:
        """Sync the folder to disk periodically, in a task."""
        over = asyncio.Event()
        syncing = asyncio.create_task(_sync_often(self._folder, over, asyncio.current_task()))
        syncing.add_done_callback(self._note_error)
        try:
            yield
        finally:
            over.set()
            try:
                await wait_until_done([syncing])
            finally:
                if not syncing.cancelled():
                    syncing.result()


async def _sync_often(folder: Folder, over: asyncio.Event, batch: object) -> None:
    """Runs until `over` is set, or until a sync raises `OutputError`.

    `batch` is the task of the batch. It is referenced here because an event loop references only tasks that wait for
    the loop itself, as this one does for its timer: a batch that waits for its reader could be collected with it.
    """
    while not over.is_set():
        try:
            await asyncio.wait_for(over.wait(), SYNC_SECONDS)
        except TimeoutError:
            await in_thread(folder.sync)
