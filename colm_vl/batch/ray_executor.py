"""Answers the questions of a batch with the workers of a Ray cluster.

The driver, which runs the batch, is the only one that writes: the journal, traces and answers, in the order of the
questions. A worker gets single questions, and sends each finished call back at once. If it dies, its questions are sent
to others, with the calls that arrived; they are not made again.
"""

from __future__ import annotations

import asyncio
from array import array
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from typing_extensions import override

from colm_vl.backend_pool import BackendPool
from colm_vl.batch.answering import Answering, Outcome, refused
from colm_vl.batch.executors import RayOptions, Work
from colm_vl.batch.folder import Folder
from colm_vl.batch.journal import digest_of, short
from colm_vl.batch.pictures import Pictures
from colm_vl.batch.questions import Row
from colm_vl.batch.ray_cluster import Fleet, connect_to_ray, plan_cluster
from colm_vl.batch.ray_worker import Answered
from colm_vl.batch.scheduling import ModelSchedule
from colm_vl.batch.shards import content_digest
from colm_vl.errors import BackendError, ConfigError
from colm_vl.extras import require
from colm_vl.strategies import Choice
from processors.sources import is_path

ATTEMPTS = 5
"""How many workers may die while they have a question, before it fails."""


class WorkerLost(BackendError):
    """A question was sent to several workers, and all of them ended before it was answered."""

    kind = "worker_lost"


class RayExecutor:
    """Connects to the cluster when the first question has to be asked: a finished run needs none."""

    def __init__(self, work: Work, pool: BackendPool, options: RayOptions) -> None:
        self._work = work
        self._pool = pool
        self._options = options
        self._answering: RayAnswering | None = None

    async def connect(self) -> None:
        require("ray", "ray")

    def schedule(self) -> ModelSchedule:
        limit = self._work.team.policy.max_loaded
        local = sum(member.options.in_process for member in self._work.team.members)
        if limit is not None and local > limit:
            raise ConfigError(
                f"max_loaded is {limit}, and the team has {local} local models: a Ray worker loads all of them",
                hint="give each worker more of a GPU with --worker-gpus, or divide the batch with --shard",
            )
        return ModelSchedule()

    def answering(self, folder: Folder, schedule: ModelSchedule) -> RayAnswering:
        self._answering = RayAnswering(self._work, self._pool, folder, schedule, self._options)
        return self._answering

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._answering is not None:
            await self._answering.aclose()


class RayAnswering(Answering):
    """Sends the questions that an earlier run has not answered to workers."""

    def __init__(
        self, work: Work, pool: BackendPool, folder: Folder, schedule: ModelSchedule, options: RayOptions
    ) -> None:
        super().__init__(
            work.choices, pool, folder.journal, folder, schedule, work.stats, pictures=Pictures(remote=True)
        )
        self._work = work
        self._journal = folder.journal
        self._options = options
        self._fleet: Fleet | None = None
        self._starting = asyncio.Lock()
        self._made_here = False
        self._closing: set[asyncio.Task[None]] = set()
        # Equal questions share calls. One waits for the other, and gets its calls.
        self._turns: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._equal: Counter[int] = Counter()
        """How many equal questions have a turn or wait for it."""
        self._calls_of: dict[int, array[int]] = {}

    @override
    def close(self) -> None:
        super().close()
        if self._fleet is not None:
            task = asyncio.create_task(self._fleet.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        if self._fleet is not None:
            self._fleet.kill()
        if self._made_here:
            await asyncio.to_thread(require("ray", "ray").shutdown)

    @override
    async def _ask(self, row: Row, choices: Sequence[Choice]) -> list[Outcome]:
        if row.problem:
            return await super()._ask(row, choices)
        fleet = await self._started()
        content = content_digest(row)
        async with self._turn(content):
            known = self._journal.lines(self._calls_of.pop(content, ()))
            strategies = [choice.team.policy.strategy for choice in choices]
            try:
                answered = await self._sent(fleet, _with_absolute_paths(row), strategies, known)
            except WorkerLost as error:
                return [Outcome(refused(row, choice.team, error)) for choice in choices]
            finally:
                self._calls_of[content] = array("Q", (short(digest_of(line)) for line in known))
        self._stats.add_calls(answered.stats)
        return [Outcome(trace) for trace in answered.traces]

    @asynccontextmanager
    async def _turn(self, content: int) -> AsyncGenerator[None, None]:
        """One of the questions with this content at a time."""
        self._equal[content] += 1
        try:
            async with self._turns[content]:
                yield
        finally:
            self._equal[content] -= 1
            if not self._equal[content]:
                del self._equal[content], self._turns[content]

    async def _sent(self, fleet: Fleet, row: Row, strategies: Sequence[str], known: list[bytes]) -> Answered:
        """Appends the lines of finished calls to the journal and to `known`. Raises `WorkerLost`."""
        for _ in range(ATTEMPTS):
            async with fleet.worker() as worker:
                async for item in worker.ask(row, strategies, known):
                    if isinstance(item, Answered):
                        return item
                    for line in item:
                        self._journal.append(line)
                        known.append(line)
        raise WorkerLost(
            f"{ATTEMPTS} workers ended while they had this question",
            hint="look for what ended them in Ray's logs; memory is the usual cause",
        )

    async def _started(self) -> Fleet:
        async with self._starting:
            if self._fleet is None:
                self._made_here = await asyncio.to_thread(connect_to_ray, self._options.address)
                cluster = plan_cluster(self._options, self._work.team)
                self._work.stats.notes.append(str(cluster))
                known = self._journal.known()
                files = self._journal.files if known else []
                teams = [choice.team for choice in self._work.choices]
                self._fleet = Fleet(cluster, teams, known, files, self._work.stats.notes.append)
                await self._fleet.first_ready()
                self.workers = cluster.workers
        return self._fleet


def _with_absolute_paths(row: Row) -> Row:
    """Workers have other current folders."""
    pictures = (str(Path(one).absolute()) if is_path(one) else one for one in row.pictures)
    return replace(row, pictures=tuple(pictures)) if row.pictures else row
