"""What all parts of the service share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from colm_vl.backend_pool import BackendPool
from colm_vl.backends import registry
from colm_vl.backends.base import Backend
from colm_vl.health import Health, check_team
from colm_vl.service.accounting import Sink
from colm_vl.service.catalogue import offered
from colm_vl.service.errors import NO_RETRY, ApiError
from colm_vl.service.guidance import GuidanceService
from colm_vl.service.keys import KeyRing
from colm_vl.service.ledger import Ledger, day_begun
from colm_vl.service.logs import RequestLog
from colm_vl.service.metrics import Metrics
from colm_vl.service.pictures import DECODED_AT_ONCE, PictureStore
from colm_vl.service.queue import FairQueue
from colm_vl.service.queued import QueuedBackend
from colm_vl.service.settings import Settings
from colm_vl.service.shared import PicturesHere, PlacesHere, Shared
from colm_vl.service.telemetry import Telemetry
from colm_vl.team import Team


class Service:
    """A team behind HTTP, for one event loop. `backends` replaces those of members, as for `AsyncCoLM`; the server's
    is put behind the queue. Without `keys`, every caller is anonymous. With a `ledger`, quotas of a day go on from
    before. `ledger` and `telemetry` are not closed here. `shared` is what other processes of the
    service keep for it, instead of `ledger` and a queue of its own."""

    def __init__(
        self,
        team: Team,
        *,
        settings: Settings | None = None,
        keys: KeyRing | None = None,
        backends: Mapping[str, Backend] | None = None,
        ledger: Ledger | None = None,
        telemetry: Telemetry | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.team = team
        self.settings = settings or Settings()
        self.keys = keys
        common = shared or shared_here(self.settings, keys, ledger)
        self.places, self.pictures = common.places, common.pictures
        members = dict(backends or {})
        if server := team.server:
            given = members.get(server.name)
            own = given or registry.connect(server.backend, server.options)
            times = server.options.keeps_time if given is None else bool(getattr(given, "keeps_time", False))
            members[server.name] = QueuedBackend(own, self.places, times=times, max_pixels=server.options.max_pixels)
        self.pool = BackendPool(members, max_loaded=team.policy.max_loaded)
        self.guidance = GuidanceService(team, self.pool, self.places, self.pictures) if team.server else None
        self.models = offered(team, self.settings.strategies)
        self.decoding = asyncio.Semaphore(DECODED_AT_ONCE)
        self.metrics = Metrics(self.places, team)
        self.sinks: Sequence[Sink] = (
            self.metrics,
            RequestLog(content=self.settings.log_content),
            *([common.ledger] if common.ledger else []),
            *([telemetry] if telemetry else []),
        )
        self.started = int(time.time())
        self.stopping = False
        self._under_way: set[asyncio.Timeout] = set()
        self._check: asyncio.Task[Sequence[Health]] | None = None
        self._checked = 0.0

    @asynccontextmanager
    async def under_way(self) -> AsyncGenerator[None, None]:
        """Work that may end before the service does, but not after its grace time: it then raises `ApiError`."""
        scope = asyncio.timeout(None)
        self._under_way.add(scope)
        try:
            async with scope:
                yield
        except TimeoutError:
            if not scope.expired():
                raise
            raise ApiError(503, "the service was stopped", code="stopped", headers=NO_RETRY) from None
        finally:
            self._under_way.discard(scope)

    def cancel_all(self) -> None:
        now = asyncio.get_running_loop().time()
        for scope in list(self._under_way):
            scope.reschedule(now)

    async def failing(self) -> Sequence[str]:
        """The members that do not answer. They are asked at most once in `Settings.ready_for` seconds."""
        now = time.monotonic()
        if self._check is None or (self._check.done() and now - self._checked > self.settings.ready_for):
            self._checked = now
            self._check = asyncio.create_task(self._ask_members())
        return [health.member.name for health in await asyncio.shield(self._check) if not health.works]

    async def aclose(self) -> None:
        if self._check is not None:
            self._check.cancel()
            await asyncio.wait([self._check])
        await self.pool.aclose()

    async def _ask_members(self) -> Sequence[Health]:
        try:
            return await check_team(self.team, self.pool)
        finally:
            self._checked = time.monotonic()


def shared_here(settings: Settings, keys: KeyRing | None, ledger: Ledger | None) -> Shared:
    """The places, quotas and pictures of a service in one process."""
    limits = settings.queue
    queue = FairQueue(limits.places, max_waiting=limits.waiting, max_waiting_each=limits.waiting_each)
    if ledger is not None and keys is not None:
        used = ledger.server_tokens_since(day_begun(time.time()))
        for caller in keys.callers:
            queue.set_tokens_today(caller, used.get(caller.name, 0))
    return Shared(PlacesHere(queue), PicturesHere(PictureStore(settings.picture_limits)), ledger)
