"""The models of a team, connected when first needed, at most so many local ones in memory at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager

from colm_vl.backends import registry
from colm_vl.backends.base import Backend
from colm_vl.team import Member


class BackendPool:
    """Backends by member name. Lives on one event loop; closing it closes them all, given ones included.

    `max_loaded` bounds the models in this process; endpoints do not count. A member without a place waits until some
    other model is idle, which is then put away. `loads` counts how often each member was connected.
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
        """The member's backend, which is not put away while anybody uses it."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._ready(member) or self._idle())
            if member.name not in self._backends:
                await self._connect(member)
            self._users[member.name] += 1
        try:
            yield self._backends[member.name]
        finally:
            # Not awaited under the lock: a cancelled caller must give its place back all the same.
            self._users[member.name] -= 1
            if self._max_loaded is not None:
                await asyncio.shield(self._tell())

    async def keep(self, names: Collection[str]) -> None:
        """Put the idle models of this process away, except these."""
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
        """Whether the member counts for `max_loaded`."""
        given = member.name in self._backends and member.name not in self._local
        return member.options.in_process and not given

    def _idle(self) -> list[str]:
        return [name for name in self._local if not self._users[name]]

    async def _connect(self, member: Member) -> None:
        if not self._ready(member):
            put_away = self._idle()[0]
            self._local.discard(put_away)
            await self._backends.pop(put_away).aclose()
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
