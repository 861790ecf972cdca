"""The machines of a Ray cluster, and the workers of a batch on them."""

from __future__ import annotations

import asyncio
import os
import sys
from array import array
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typing_extensions import override

from colm_vl.batch.executors import RayOptions
from colm_vl.batch.questions import Row
from colm_vl.batch.ray_worker import Answered, JournalReader, KnownCalls, Ready, Worker
from colm_vl.errors import ConfigError
from colm_vl.extras import require
from colm_vl.team import Team

_MOST_CPU_WORKERS = 8
_TELL_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Cluster:
    """What a batch gets of a cluster: `workers` actors, each with `cpus` and `gpus`.

    `room` is how many of them fit on each machine.
    """

    room: Mapping[str, int]
    total_cpus: float
    total_gpus: float
    workers: int
    cpus: float
    gpus: float

    @override
    def __str__(self) -> str:
        each = f"{self.cpus:g} CPUs and {self.gpus:g} GPUs" if self.gpus else f"{self.cpus:g} CPUs"
        have = f"{self.total_cpus:g} CPUs, {self.total_gpus:g} GPUs"
        return f"Ray: {len(self.room)} nodes ({have}); {self.workers} workers with {each} each"

    @property
    def placed(self) -> Mapping[str, int]:
        """How many workers each machine gets, if nothing else uses the cluster: they are spread evenly."""
        placed, left = dict.fromkeys(self.room, 0), self.workers
        while left and (free := [node for node, room in self.room.items() if placed[node] < room]):
            least = min(free, key=lambda node: placed[node])
            placed[least] += 1
            left -= 1
        return placed


def connect_to_ray(address: str) -> bool:
    """Connect this process to a cluster, unless it is connected. Returns whether it was not."""
    ray = require("ray", "ray")
    if ray.is_initialized():
        return False
    if address.startswith("ray://"):
        raise ConfigError(
            f"{address}: Ray Client cannot stream results",
            hint="run the command on the cluster: ray job submit -- colm-vl batch … --ray auto",
        )
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet = {"logging_level": "ERROR", "log_to_driver": False}
    try:
        ray.init(address=address, **quiet)
    except ConnectionError as error:
        if address != "auto":
            raise ConfigError(f"no Ray cluster at {address}: {error}", hint="start one with `ray start`") from None
        ray.init(include_dashboard=False, **quiet)
    return True


def plan_cluster(options: RayOptions, team: Team) -> Cluster:
    """Raises `ConfigError` if no machine of the cluster has what a worker needs."""
    ray = require("ray", "ray")
    alive = [node for node in ray.nodes() if node["Alive"]]
    resources = [node["Resources"] for node in alive]
    total_cpus, total_gpus = (sum(one.get(kind, 0.0) for one in resources) for kind in ("CPU", "GPU"))
    local = any(member.options.in_process for member in team.members)
    gpus = options.gpus if options.gpus is not None else float(local and total_gpus > 0)
    cpus = options.cpus if options.cpus is not None else 1.0
    fits = [
        min(
            one.get("CPU", 0.0) // cpus if cpus else _MOST_CPU_WORKERS,
            (one.get("GPU", 0.0) + 1e-9) // gpus if gpus else sys.maxsize,
        )
        for one in resources
    ]
    if not any(fits):
        raise ConfigError(
            f"no machine of the cluster has {cpus:g} CPUs and {gpus:g} GPUs for a worker",
            hint="ask for less with --worker-cpus and --worker-gpus, or add machines",
        )
    most = int(sum(fits)) if local else min(int(sum(fits)), _MOST_CPU_WORKERS)
    room = {
        f"{node['NodeManagerHostname']} ({node['NodeID'][:6]})": int(fit) for node, fit in zip(alive, fits, strict=True)
    }
    return Cluster(room, total_cpus, total_gpus, options.workers or most, cpus, gpus)


def plan_of(options: RayOptions, team: Team) -> Cluster:
    """Connect to the cluster, plan, and disconnect."""
    connected = connect_to_ray(options.address)
    try:
        return plan_cluster(options, team)
    finally:
        if connected:
            require("ray", "ray").shutdown()


@dataclass(slots=True)
class _Actor:
    handle: Any
    busy: int = 0
    ready: bool = False
    waiting: asyncio.Task[None] | None = None
    """Waits until it is started, or started again."""

    async def ask(
        self, row: Row, strategies: Sequence[str], known: Sequence[bytes]
    ) -> AsyncGenerator[tuple[bytes, ...] | Answered, None]:
        """Ends without an `Answered` if the worker is lost."""
        import ray

        try:
            items = self.handle.answer.options(num_returns="streaming").remote(row, strategies, tuple(known))
            async for reference in items:
                yield await reference
        except ray.exceptions.RayTaskError as error:
            raise error.as_instanceof_cause() from None
        except ray.exceptions.RayError:
            self.ready = False


class Fleet:
    """The workers. Ray starts those again that end, on another machine if need be."""

    def __init__(
        self,
        cluster: Cluster,
        teams: Sequence[Team],
        known: array[int],
        journals: Sequence[Path],
        tell: Callable[[str], None],
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._cluster = cluster
        self._tell = tell
        self._changed = asyncio.Event()
        self._error: ConfigError | None = None
        self._reader: Any = None
        calls = None
        if known:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            self._reader = (
                ray.remote(JournalReader).options(num_cpus=0, scheduling_strategy=here).remote(list(journals))
            )
            calls = KnownCalls(known, _Reading(self._reader))
        options = {
            "num_cpus": cluster.cpus,
            "num_gpus": cluster.gpus,
            "max_restarts": -1,
            "max_concurrency": 1000,
            "scheduling_strategy": "SPREAD",
        }
        self._teams, self._known = ray.put(list(teams)), ray.put(calls)
        actor = ray.remote(Worker).options(**options)
        self._actors = [_Actor(actor.remote()) for _ in range(cluster.workers)]
        for one in self._actors:
            self._await(one)

    async def first_ready(self) -> None:
        """Wait until a worker is ready, and tell what is being waited for. Raises `ConfigError` if they cannot be."""
        while self._error is None and not any(actor.ready for actor in self._actors):
            self._changed.clear()
            try:
                await asyncio.wait_for(self._changed.wait(), _TELL_SECONDS)
            except TimeoutError:
                self._tell(self._waiting())
        if self._error is not None:
            raise self._error

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[_Actor, None]:
        """The worker that has the fewest questions."""
        await self.first_ready()
        chosen = min((actor for actor in self._actors if actor.ready), key=lambda actor: actor.busy)
        chosen.busy += 1
        try:
            yield chosen
        finally:
            chosen.busy -= 1
            if not chosen.ready:
                self._await(chosen)

    async def close(self) -> None:
        """Let the workers make no further calls."""
        import ray

        with suppress(ray.exceptions.RayError):
            await asyncio.gather(*(actor.handle.close.remote() for actor in self._actors if actor.ready))

    def kill(self) -> None:
        import ray

        for actor in self._actors:
            if actor.waiting is not None:
                actor.waiting.cancel()
        for handle in [*(actor.handle for actor in self._actors), *([self._reader] if self._reader else [])]:
            ray.kill(handle)

    def _await(self, actor: _Actor) -> None:
        if actor.waiting is None:
            actor.waiting = asyncio.create_task(self._await_ready(actor))

    async def _await_ready(self, actor: _Actor) -> None:
        import ray

        try:
            while not actor.ready:
                try:
                    found: Ready = await actor.handle.ready.remote(self._teams, self._known)
                except ray.exceptions.ActorUnavailableError:
                    await asyncio.sleep(0.2)  # until it is started again
                    continue
                except ray.exceptions.RayActorError as error:
                    self._error = self._error or ConfigError(f"a worker cannot be started: {error}")
                    return
                if found.problem:
                    self._error = ConfigError(f"{found.problem} (a worker on {found.host})", hint=found.hint)
                    return
                actor.ready = True
                if found.loaded:
                    names = ", ".join(sorted(found.loaded))
                    self._tell(f"process {found.process} on {found.host} loaded {names}")
        finally:
            actor.waiting = None
            self._changed.set()

    def _waiting(self) -> str:
        each = f"{self._cluster.cpus:g} CPUs" + (f" and {self._cluster.gpus:g} GPUs" if self._cluster.gpus else "")
        return f"waiting for a Ray worker; each needs {each}, and loads its models"


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads a line of a journal through the actor of its machine."""

    reader: Any

    async def __call__(self, digest: str) -> bytes | None:
        found: bytes | None = await self.reader.line.remote(digest)
        return found
