"""The backends of a team, connected at first use, with a limit on the local models in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager

import anyio

from colm_vl.backends import registry
from colm_vl.backends.base import Backend
from colm_vl.errors import BackendError
from colm_vl.team import Member


class BackendPool:
    """Backends by member name, for one event loop. Closing the pool closes all of them, including those passed in.

    `max_loaded` limits the models in this process; endpoints do not count. At the limit, a member waits until another
    model is idle, which is then unloaded. `loads` counts how often each member was connected.
    """

    def __init__(self, backends: Mapping[str, Backend] | None = None, *, max_loaded: int | None = None) -> None:
        self.loads: Counter[str] = Counter()
        self._backends: dict[str, Backend] = dict(backends or {})
        self._given = frozenset(self._backends)
        self._local: set[str] = set()  # the models in memory, including those that are being unloaded
        self._users: Counter[str] = Counter()
        self._max_loaded = max_loaded
        self._change = asyncio.Event()
        self._unloading: set[asyncio.Task[None]] = set()
        self._closing: asyncio.Task[None] | None = None

    @property
    def loaded(self) -> frozenset[str]:
        """The members whose models are in this process."""
        return frozenset(self._local)

    def is_given(self, member: Member) -> bool:
        """Whether the member's backend was passed in."""
        return member.name in self._given

    def keeps_time(self, member: Member) -> bool:
        """Whether the member's backend itself applies `Request.timeout`."""
        if self.is_given(member):
            return bool(getattr(self._backends.get(member.name), "keeps_time", False))
        return member.options.keeps_time

    def counts_as_loaded(self, member: Member) -> bool:
        """Whether the member counts towards `max_loaded`."""
        return member.options.in_process and not self.is_given(member)

    @property
    def limited(self) -> bool:
        """Whether local models may have to take turns in memory."""
        return self._max_loaded is not None

    def takes_turns(self, members: Iterable[Member], max_loaded: int | None = None) -> bool:
        """Whether these members have more local models than may be in memory at once: `max_loaded`, or the limit of the
        pool if it is smaller."""
        limits = [limit for limit in (max_loaded, self._max_loaded) if limit is not None]
        return bool(limits) and sum(map(self.counts_as_loaded, members)) > min(limits)

    @asynccontextmanager
    async def use(self, member: Member) -> AsyncIterator[Backend]:
        """The member's backend. It is not unloaded while in use. Raises `BackendError` if the pool is closed."""
        while not self._ready(member):
            idle = self._idle()
            if idle and not self._unloading:
                await self._unload(idle[0])
            else:
                await self._change.wait()
        # Nothing is awaited from here on until the use is counted.
        if self._closing is not None:
            raise BackendError(f"{member.name}: not called, because this CoLM is closed")
        backend = self._backends.get(member.name) or self._connect(member)
        self._users[member.name] += 1
        try:
            yield backend
        finally:
            self._users[member.name] -= 1
            self._notify()

    async def load(self, members: Iterable[Member]) -> None:
        """Load the local models among them, unless they take turns in memory."""

        async def one(member: Member) -> None:
            async with self.use(member) as backend:
                await backend.capabilities()

        local = [member for member in members if self.counts_as_loaded(member)]
        if not self.takes_turns(local):
            await asyncio.gather(*map(one, local))

    async def keep(self, names: Collection[str]) -> None:
        """Unload the idle local models, except those named."""
        for name in set(self._idle()) - set(names):
            await self._unload(name)

    async def aclose(self) -> None:
        """Close all backends. Raises what closing one of them raised, after all are closed. A cancelled call completes
        in the background; further calls wait for it."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close_all())
            self._notify()
        with anyio.CancelScope(shield=True):
            await asyncio.shield(self._closing)

    def _ready(self, member: Member) -> bool:
        if self._closing is not None or member.name in self._backends or not member.options.in_process:
            return True
        return self._max_loaded is None or len(self._local) < self._max_loaded

    def _idle(self) -> list[str]:
        return [name for name in self._local if name in self._backends and not self._users[name]]

    def _connect(self, member: Member) -> Backend:
        backend = self._backends[member.name] = registry.connect(member.backend, member.options)
        self.loads[member.name] += 1
        if member.options.in_process:
            self._local.add(member.name)
        return backend

    async def _unload(self, name: str) -> None:
        """Unload in a separate task, which is not cancelled with the caller. The model counts until it is unloaded."""
        backend = self._backends.pop(name)

        async def close() -> None:
            try:
                await backend.aclose()
            finally:
                self._local.discard(name)
                self._notify()

        task = asyncio.create_task(close())
        self._unloading.add(task)
        task.add_done_callback(self._unloading.discard)
        await asyncio.shield(task)

    async def _close_all(self) -> None:
        closing = [backend.aclose() for backend in self._backends.values()]
        results = await asyncio.gather(*closing, *self._unloading, return_exceptions=True)
        self._backends.clear()
        self._local.clear()
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def _notify(self) -> None:
        """Wake all tasks that wait for a change."""
        self._change.set()
        self._change = asyncio.Event()
