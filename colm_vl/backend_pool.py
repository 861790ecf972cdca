"""The backends of a team, connected at first use, with a limit on the local models in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from colm_vl.backends import registry
from colm_vl.backends.base import Backend
from colm_vl.team import Member


class BackendPool:
    """Backends by member name, for one event loop. Closing the pool closes all of them, including those passed in.

    `max_loaded` limits the models in this process; endpoints do not count. At the limit, a member waits until another
    model is idle, which is then unloaded. `loads` counts how often each member was connected.
    """

    def __init__(self, backends: Mapping[str, Backend] | None = None, *, max_loaded: int | None = None) -> None:
        self.loads: Counter[str] = Counter()
        self._backends: dict[str, Backend] = dict(backends or {})
        self._local: set[str] = set()
        self._users: Counter[str] = Counter()
        self._max_loaded = max_loaded
        self._changed = asyncio.Condition()

    @property
    def loaded(self) -> frozenset[str]:
        """The members whose models are in this process."""
        return frozenset(self._local)

    @asynccontextmanager
    async def use(self, member: Member) -> AsyncIterator[Backend]:
        """The member's backend. It is not unloaded while in use."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ready(member) or self._idle())
            if member.name not in self._backends:
                await self._connect(member)
            self._users[member.name] += 1
        try:
            yield self._backends[member.name]
        finally:
            # Not under the lock, which would have to be awaited: a cancelled caller must release its use as well.
            self._users[member.name] -= 1
            if self._max_loaded is not None:
                await asyncio.shield(self._tell())

    async def keep(self, names: Collection[str]) -> None:
        """Unload the idle local models, except those named."""
        async with self._changed:
            for name in set(self._idle()) - set(names):
                self._local.discard(name)
                await self._backends.pop(name).aclose()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _ready(self, member: Member) -> bool:
        if member.name in self._backends or self._max_loaded is None or not member.options.in_process:
            return True
        return len(self._local) < self._max_loaded

    def takes_place(self, member: Member) -> bool:
        """Whether the member counts towards `max_loaded`."""
        given = member.name in self._backends and member.name not in self._local
        return member.options.in_process and not given

    def _idle(self) -> list[str]:
        return [name for name in self._local if not self._users[name]]

    async def _connect(self, member: Member) -> None:
        if not self._ready(member):
            unloaded = self._idle()[0]
            self._local.discard(unloaded)
            await self._backends.pop(unloaded).aclose()
        self._backends[member.name] = registry.connect(member.backend, member.options)
        self.loads[member.name] += 1
        if member.options.in_process:
            self._local.add(member.name)

    async def aclose(self) -> None:
        backends, self._backends = self._backends, {}
        self._local.clear()
        results = await asyncio.gather(*(backend.aclose() for backend in backends.values()), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
