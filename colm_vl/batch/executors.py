"""Where the questions of a batch are answered: in this process, or by the workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from colm_vl.backend_pool import BackendPool
from colm_vl.batch.answering import Answering
from colm_vl.batch.folder import Folder
from colm_vl.batch.scheduling import ModelSchedule
from colm_vl.batch.stats import BatchStats
from colm_vl.errors import ConfigError
from colm_vl.strategies import Choice
from colm_vl.team import Member, Team


@dataclass(frozen=True, slots=True)
class Work:
    """What an executor needs to know of a batch."""

    team: Team
    choices: Sequence[Choice]
    stats: BatchStats


class Executor(Protocol):
    async def connect(self) -> None:
        """Raise what would make every question fail, such as a missing key."""

    def schedule(self) -> ModelSchedule:
        """Raises `ConfigError` if the local models of the team cannot be used here."""

    def answering(self, folder: Folder, schedule: ModelSchedule) -> Answering: ...


class LocalExecutor:
    """Answers questions in this process."""

    def __init__(self, work: Work, pool: BackendPool) -> None:
        self._work = work
        self._pool = pool

    async def connect(self) -> None:
        await connect(self._work.choices, self._pool)

    def schedule(self) -> ModelSchedule:
        limit = self._work.team.policy.max_loaded
        local = [member for member in self._work.team.members if self._pool.counts_as_loaded(member)]
        return ModelSchedule(local, limit) if limit is not None and len(local) > limit else ModelSchedule()

    def answering(self, folder: Folder, schedule: ModelSchedule) -> Answering:
        return Answering(self._work.choices, self._pool, folder.journal, folder, schedule, self._work.stats)


@asynccontextmanager
async def executor(work: Work, pool: BackendPool, ray: RayOptions | None) -> AsyncGenerator[Executor, None]:
    if ray is None:
        yield LocalExecutor(work, pool)
        return
    from colm_vl.batch.ray_executor import RayExecutor

    async with RayExecutor(work, pool, ray) as remote:
        yield remote


@dataclass(frozen=True, slots=True)
class RayOptions:
    """How a batch uses a Ray cluster.

    `address` is `"auto"` (the cluster of this machine, or else a cluster of this machine alone) or `"HOST:PORT"`.
    `workers` is the number of actors, and `gpus` and `cpus` what each of them reserves; fractions are possible. By
    default, a team with local models has one worker for each GPU of the cluster, or one for each CPU if there is none;
    a team of endpoints has one for each CPU, up to eight.
    """

    address: str = "auto"
    workers: int | None = None
    gpus: float | None = None
    cpus: float | None = None


async def connect(choices: Sequence[Choice], pool: BackendPool) -> None:
    """Connect all endpoints, so that an error such as a missing key is raised once, not for every question."""
    for choice in choices:
        strategy, team = choice.strategy, choice.team
        clients: Sequence[Member] = ()
        if strategy.needs_clients:
            clients = [team.asker] if strategy.one_client else team.clients
        server = [team.server] if team.server and strategy.needs_server else []
        for member in (*clients, *server):
            if not member.options.in_process:
                async with pool.use(member):
                    pass


def ray_options(address: str, workers: int | None, gpus: float | None, cpus: float | None) -> RayOptions | None:
    """The options of a command line. Raises `ConfigError` if there is no address to which they belong."""
    given = {"--workers": workers, "--worker-gpus": gpus, "--worker-cpus": cpus}
    if not address:
        if alone := next((name for name, value in given.items() if value is not None), ""):
            raise ConfigError(f"{alone} is given without --ray", hint="name the cluster, such as --ray auto")
        return None
    return RayOptions(address, workers, gpus, cpus)


def cluster_summary(options: RayOptions, team: Team, concurrency: int) -> str:
    """What a batch would use of the cluster. Connects to it."""
    from colm_vl.batch.ray_cluster import plan_of

    cluster = plan_of(options, team)
    local = [member.name for member in team.members if member.options.in_process]
    lines = [
        str(cluster),
        f"up to {cluster.workers * concurrency:,} questions at the same time, {concurrency} a worker",
    ]
    lines += [f"  {node}: {count} workers" for node, count in cluster.placed.items()]
    if local:
        lines.append(f"each worker loads the models of {', '.join(local)}, once")
    return "\n".join(lines)
