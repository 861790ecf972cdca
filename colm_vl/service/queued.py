"""Calls of the server member wait in the service's queue, in the name of the caller whose request made them.

Who asks is a context variable, since strategies and stages know nothing of callers; tasks inherit it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Final, cast

from colm_vl.backends.base import Backend, Capabilities, Generation, Piece, QueuePlace, Request
from colm_vl.errors import ColmError, TimedOut
from colm_vl.service import accounting
from colm_vl.service.queue import Caller
from colm_vl.service.shared import Places

OPERATOR = Caller("")
"""The service itself, for instance when it checks its members."""

_CHARACTERS_A_TOKEN = 4
_PIXELS_A_TOKEN = 28 * 28
"""As in Qwen2.5-VL."""
_TICK = 1.0
"""Seconds between two looks at the place in the queue."""
_END: Final = object()


_CALLER: ContextVar[Caller] = ContextVar("colm_vl.service.caller", default=OPERATOR)


@contextmanager
def visit(caller: Caller) -> Generator[None, None, None]:
    """Calls made within the block, and in tasks started there, are the caller's."""
    token = _CALLER.set(caller)
    try:
        yield
    finally:
        _CALLER.reset(token)


class QueuedBackend:
    """The backend of the server member behind a queue. Streams tell the place in the queue. The timeout of a request
    begins once it waits no longer."""

    keeps_time = True

    def __init__(self, backend: Backend, places: Places, *, times: bool, max_pixels: int | None = None) -> None:
        """`times`: `backend` applies the timeout of a request itself. `max_pixels` is that of its member."""
        self._backend = backend
        self._places = places
        self._times = times
        self._max_pixels = max_pixels

    async def generate(self, request: Request) -> Generation:
        async with aclosing(self._served(request, streamed=False)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Generation):
                    return piece
        raise AssertionError("a call ends with its generation")

    async def stream(self, request: Request) -> AsyncIterator[Piece]:
        async with aclosing(self._served(request, streamed=True)) as pieces:
            async for piece in pieces:
                yield piece

    async def capabilities(self) -> Capabilities:
        return await self._backend.capabilities()

    async def aclose(self) -> None:
        await self._backend.aclose()

    async def _served(self, request: Request, *, streamed: bool) -> AsyncGenerator[Piece, None]:
        caller = _CALLER.get()
        request = replace(request, scope=caller.name)
        async with self._places.place(caller, self._estimate(request)) as ticket:
            ahead: int | None = None
            while ticket.begun is None:
                if ticket.ahead != ahead:
                    ahead = ticket.ahead
                    yield QueuePlace(ahead)
                await ticket.turn(_TICK)
            if ahead is not None:
                yield QueuePlace(None)
            accounting.waited(ticket.waited)
            try:
                async with aclosing(self._pieces(request, streamed)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, Generation):
                            ticket.tokens = piece.usage.prompt_tokens + piece.usage.completion_tokens
                            piece = replace(piece, timing=piece.timing.after(ticket.waited))
                        yield piece
            except ColmError:
                ticket.tokens = 0
                raise

    async def _pieces(self, request: Request, streamed: bool) -> AsyncGenerator[Piece, None]:
        timeout = None if self._times else request.timeout
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            if not streamed:
                async with asyncio.timeout_at(deadline):
                    generation = await self._backend.generate(request)
                yield generation
                return
            stream = cast("AsyncGenerator[Piece, None]", self._backend.stream(request))
            async with aclosing(stream):
                while True:
                    async with asyncio.timeout_at(deadline):
                        piece = await anext(stream, _END)
                    if not isinstance(piece, (str, QueuePlace, Generation)):
                        return
                    yield piece
        except TimeoutError:
            raise TimedOut(f"the server did not answer within {timeout or 0:g} s", limit=timeout) from None

    def _estimate(self, request: Request) -> int:
        """An upper bound in most cases: characters and pixels by usual rates, and all tokens that may be generated."""
        characters = sum(len(message.text) for message in request.messages)
        most = self._max_pixels or math.inf
        pixels = sum(min(image.pixels, most) for image in request.images)
        return int(characters / _CHARACTERS_A_TOKEN + pixels / _PIXELS_A_TOKEN) + request.sampling.max_tokens
