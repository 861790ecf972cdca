"""What several processes of one service have in common: places at the server, quotas, and uploaded pictures.

`colm-vl serve` is one process and keeps them itself. With Ray Serve, one process keeps them for all (`ray.py`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from colm_vl.service.accounting import Sink
from colm_vl.service.pictures import PictureStore
from colm_vl.service.queue import Caller, FairQueue
from processors.images import Image


class Place(Protocol):
    """See `queue.Ticket`."""

    tokens: int | None

    @property
    def begun(self) -> float | None: ...

    @property
    def waited(self) -> float: ...

    @property
    def ahead(self) -> int: ...

    async def turn(self, within: float | None = None) -> None: ...


class Places(Protocol):
    """See `queue.FairQueue`. The numbers may be a few seconds old."""

    @property
    def waiting(self) -> int: ...

    @property
    def serving(self) -> int: ...

    @property
    def places(self) -> int: ...

    @property
    def retry_after(self) -> float: ...

    async def admit(self, caller: Caller) -> None: ...

    def place(self, caller: Caller, cost: int) -> AbstractAsyncContextManager[Place]: ...


class Pictures(Protocol):
    """See `pictures.PictureStore`."""

    async def has(self, owner: str, digest: str) -> bool: ...

    async def put(self, owner: str, digest: str, data: bytes) -> None: ...

    async def open(self, owner: str, digests: Sequence[str]) -> tuple[Image, ...]: ...


@dataclass(frozen=True, slots=True)
class Shared:
    places: Places
    pictures: Pictures
    ledger: Sink | None = None


class PlacesHere:
    """The places of a queue in this process."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue

    @property
    def waiting(self) -> int:
        return self.queue.waiting

    @property
    def serving(self) -> int:
        return self.queue.serving

    @property
    def places(self) -> int:
        return self.queue.places

    @property
    def retry_after(self) -> float:
        return self.queue.retry_after

    async def admit(self, caller: Caller) -> None:
        self.queue.admit(caller)

    @asynccontextmanager
    async def place(self, caller: Caller, cost: int) -> AsyncGenerator[Place, None]:
        with self.queue.place(caller, cost) as ticket:
            yield ticket


class PicturesHere:
    """The pictures of a store in this process."""

    def __init__(self, store: PictureStore) -> None:
        self.store = store

    async def has(self, owner: str, digest: str) -> bool:
        return self.store.has(owner, digest)

    async def put(self, owner: str, digest: str, data: bytes) -> None:
        await self.store.put(owner, digest, data)

    async def open(self, owner: str, digests: Sequence[str]) -> tuple[Image, ...]:
        return await self.store.open(owner, digests)
