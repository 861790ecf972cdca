"""Calls of an HTTP endpoint: concurrency limits, timeouts, retries. What is sent and read is up to a backend.

The timeout of a request starts when it is first sent. It includes retries and the waits between them, but not the time
in the queue of the endpoint. No slot is held between two attempts. `Retry-After` is respected up to MAX_ASKED_WAIT.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit
from weakref import WeakSet

from colm_vl.backends._http import FAILURES, HttpReply, HttpSession, TooLarge, UnusableProxy
from colm_vl.backends._http_call import Call, Slot
from colm_vl.backends._http_endpoint import Endpoint
from colm_vl.backends._http_errors import StatusError, Target, of_failure
from colm_vl.backends._http_events import EventReader
from colm_vl.backends._http_options import Options
from colm_vl.backends.base import QueuePlace
from colm_vl.errors import BackendError, TimedOut

MAX_DELAY = 8.0
MAX_ASKED_WAIT = 60.0
MAX_ERROR_BYTES = 1 << 20

_T = TypeVar("_T")
_R = TypeVar("_R")
_C = TypeVar("_C", bound=Call)


@dataclass(frozen=True, slots=True)
class Session:
    """Objects that belong to one event loop."""

    http: HttpSession
    endpoint: Endpoint


class HttpCalls:
    """Calls of one member at its endpoint. Each event loop in which it is used has its own connections."""

    def __init__(self, options: Options, target: Target) -> None:
        self.target = target
        self._options = options
        self._sessions: dict[asyncio.AbstractEventLoop, Session] = {}
        self._closed_in: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    async def whole(self, call: _C, attempt: Callable[[_C], Awaitable[_R]]) -> _R:
        """Attempt the call until an attempt succeeds or must not be repeated."""
        while True:
            try:
                return await attempt(call)
            except BackendError as error:
                failure = error
            await self._back_off(call, failure)

    async def streamed(self, call: _C, attempt: Callable[[_C], AsyncGenerator[_T, None]]) -> AsyncGenerator[_T, None]:
        """Failures before the first piece, other than a place in a queue, are retried; later ones are raised."""
        begun = False
        while True:
            try:
                async with aclosing(attempt(call)) as pieces:
                    async for piece in pieces:
                        begun = begun or not isinstance(piece, QueuePlace)
                        yield piece
                return
            except BackendError as error:
                if begun:
                    raise
                failure = error
            await self._back_off(call, failure)

    async def aclose(self) -> None:
        loop = asyncio.get_running_loop()
        self._closed_in.add(loop)
        session = self._sessions.pop(loop, None)
        if session is not None:
            await session.http.aclose()

    # --- steps of an attempt ---

    def slot(self, call: Call) -> Slot:
        """Hold a slot at the endpoint."""
        return Slot(call, self.session().endpoint, self.target, self._options.queue_timeout)

    async def in_time(self, call: Call, waiting: Awaitable[_R]) -> _R:
        try:
            async with asyncio.timeout_at(call.deadline):
                return await waiting
        except TimeoutError:
            limit = call.request.timeout
            raise TimedOut(
                f"{self.target.label} did not answer within {limit:g} s",
                hint="raise the stage's timeout (policy.timeouts), or ask for less",
                limit=limit,
            ) from None

    async def convert_errors(self, waiting: Awaitable[_R]) -> _R:
        """Await a step of the transport, and convert its failures to errors of `colm_vl`."""
        try:
            return await waiting
        except FAILURES as error:
            failure = of_failure(error, self.target)
        # Raised outside of `except`, because aiohttp's errors reference the request with the key and the pictures.
        raise failure

    async def status_error(self, reply: HttpReply, *, most: int = MAX_ERROR_BYTES) -> StatusError:
        """Reads at most `most` bytes, and closes the reply."""
        try:
            body = await self.convert_errors(_read_or_nothing(reply, most))
        finally:
            reply.close()
        return StatusError.of(reply.status, reply.headers, body)

    async def events(self, reply: HttpReply, most: int) -> AsyncGenerator[bytes, None]:
        """The data of the events of a stream of at most `most` bytes."""
        events = EventReader()
        async with aclosing(reply.pieces(most)) as pieces:
            while piece := await self.convert_errors(anext(pieces, b"")):
                try:
                    found = events.feed(piece)
                except TooLarge as error:
                    raise of_failure(error, self.target) from None
                for data in found:
                    yield data

    def session(self) -> Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            if loop in self._closed_in:  # calls that failed because of it must not be repeated
                raise BackendError(f"{self.target.label} was closed")
            for ended in [other for other in self._sessions if other.is_closed()]:
                del self._sessions[ended]
            options = self._options
            endpoint = Endpoint.shared(options.base_url, options.max_concurrency)
            session = self._sessions[loop] = Session(self._connect(), endpoint)
        return session

    def _connect(self) -> HttpSession:
        options = self._options
        try:
            return HttpSession(options.base_url, self.target.key or "none", timeout_connect=options.timeout_connect)
        except UnusableProxy as error:
            raise BackendError(
                f"{self.target.label} cannot be called: the environment names {error}",
                hint="check the proxies in the environment (HTTPS_PROXY, …): set an HTTP proxy, or add "
                f"{urlsplit(options.base_url).hostname} to NO_PROXY",
            ) from None

    async def _back_off(self, call: Call, error: BackendError) -> None:
        """Sleep until the next attempt. Raises `error` if there are no retries left, or no time for one."""
        asked, call.asked_wait = call.asked_wait or 0.0, None
        crowded, call.crowded = call.crowded, False
        most = self._options.max_retries
        if not error.retryable or asked > MAX_ASKED_WAIT or call.retries >= most + (crowded and most > 0):
            raise error
        usual = min(MAX_DELAY, self._options.retry_delay * 2**call.retries)
        delay = max(usual * random.uniform(0.5, 1.0), asked * random.uniform(1.0, 1.1))
        if call.deadline is not None and asyncio.get_running_loop().time() + delay >= call.deadline:
            raise error
        # Refusals because of too many concurrent requests do not count as retries: their number has been reduced.
        call.retries += not crowded
        await asyncio.sleep(delay)


async def _read_or_nothing(reply: HttpReply, most: int) -> bytes:
    try:
        return await reply.read(most)
    except TooLarge:
        return b""
