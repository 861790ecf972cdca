"""Backends that wrap another one and change one thing about it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from typing_extensions import override

from colm_vl.backends import registry
from colm_vl.backends.base import Backend, Capabilities, Generation, Message, Piece, Request, Sampling
from colm_vl.team import Member


class SharedBackend:
    """A backend shared by several members. It is connected at the first request and closed once."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._backend: Backend | None = None

    @property
    def backend(self) -> Backend:
        if self._backend is None:
            self._backend = registry.connect(self._member.backend, self._member.options)
        return self._backend

    async def generate(self, request: Request) -> Generation:
        return await self.backend.generate(request)

    def stream(self, request: Request) -> AsyncIterator[Piece]:
        return self.backend.stream(request)

    async def capabilities(self) -> Capabilities:
        return await self.backend.capabilities()

    async def aclose(self) -> None:
        backend, self._backend = self._backend, None
        if backend is not None:
            await backend.aclose()


class BackendWrapper:
    """Passes requests on. Subclasses override `generate`."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner

    async def generate(self, request: Request) -> Generation:
        return await self._inner.generate(request)

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        generation = await self.generate(request)
        yield generation.text
        yield generation

    async def capabilities(self) -> Capabilities:
        return await self._inner.capabilities()

    async def aclose(self) -> None:
        await self._inner.aclose()


class Reseeded(BackendWrapper):
    """Adds `shift` to the seed of every request, so that copies of one model give different samples."""

    def __init__(self, inner: Backend, shift: int) -> None:
        super().__init__(inner)
        self._shift = shift

    @override
    async def generate(self, request: Request) -> Generation:
        sampling = replace(request.sampling, seed=(request.sampling.seed or 0) + self._shift)
        return await super().generate(replace(request, sampling=sampling))


class Replayed(BackendWrapper):
    """Answers a repeated request with the same reply after `slowdown` times the time that the first one took.

    New requests to all backends that share the lock `alone` are computed one at a time, so that they are timed without
    competing for this machine. Repeated ones take no computing, as if each caller had a model of its own.
    """

    def __init__(self, inner: Backend, alone: asyncio.Lock, slowdown: float = 1.0) -> None:
        super().__init__(inner)
        self._alone = alone
        self._slowdown = slowdown
        self._known: dict[tuple[tuple[Message, ...], Sampling], Generation] = {}
        self._loaded = False

    @override
    async def generate(self, request: Request) -> Generation:
        key = (request.messages, request.sampling)
        if key not in self._known:
            async with self._alone:
                if key not in self._known:
                    self._known[key] = await self._timed(request)
                    return self._known[key]
        generation = self._known[key]
        await asyncio.sleep(generation.seconds)
        return generation

    async def _timed(self, request: Request) -> Generation:
        if not self._loaded:
            await self.capabilities()  # loads the model, which must not count
            self._loaded = True
        begun = time.monotonic()
        generation = await super().generate(request)
        return replace(generation, seconds=self._slowdown * (time.monotonic() - begun))


class Bounded(BackendWrapper):
    """Answers up to `places` requests at a time, in their order of arrival, and measures how much they are used."""

    def __init__(self, inner: Backend, places: int) -> None:
        super().__init__(inner)
        self.places = places
        self._free = asyncio.Semaphore(places)
        self._in_use = 0
        self._used = 0.0
        self._since = time.monotonic()

    def used(self) -> float:
        """Seconds for which places have been in use, summed over the places."""
        before, self._since = self._since, time.monotonic()
        self._used += self._in_use * (self._since - before)
        return self._used

    @override
    async def generate(self, request: Request) -> Generation:
        async with self._free:
            self._count(1)
            try:
                return await super().generate(request)
            finally:
                self._count(-1)

    def _count(self, change: int) -> None:
        self.used()
        self._in_use += change


@dataclass(frozen=True, slots=True)
class RecordedGuidance:
    """Guidance from a finished run, and its question."""

    question: str
    text: str


class Misguiding(BackendWrapper):
    """Replaces the guidance of a `share` of the questions by guidance for another question.

    The choice depends only on the text of the request: it is the same in every run, and a larger share includes the
    questions of a smaller one. The server is still called, so costs stay the same.
    """

    def __init__(self, inner: Backend, share: float, others: Sequence[RecordedGuidance]) -> None:
        super().__init__(inner)
        self._share = share
        self._others = others

    @override
    async def generate(self, request: Request) -> Generation:
        generation = await super().generate(request)
        asked = request.messages[-1].text
        digest = int(hashlib.sha256(asked.encode()).hexdigest()[:12], 16)
        if request.stage != "guide" or digest / 16**12 >= self._share:
            return generation
        start = digest % len(self._others) if self._others else 0
        others = (*self._others[start:], *self._others[:start])
        foreign = next((other for other in others if other.question not in asked), None)
        return replace(generation, text=foreign.text) if foreign else generation
