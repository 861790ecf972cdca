"""The state of one call: timing, retries, and its slot at the endpoint."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from types import TracebackType

from colm_vl.backends._http_endpoint import Endpoint
from colm_vl.backends._http_errors import Target
from colm_vl.backends.base import Request
from colm_vl.errors import BackendError, RateLimited, TimedOut, Unavailable
from colm_vl.types import Timing
from processors.images import Image

_BUSY_STATUSES = frozenset({503, 504, 529})


@dataclass(slots=True)
class Call:
    """The state of one call. Times are those of the event loop. `queued` is the time in seconds that it has waited in
    queues, `sent` when its last attempt left them, and `first_token` when the reply to it began, if that is known.
    `asked_wait` is the time in seconds that the last refusal asked to wait. `crowded`: the last attempt was refused
    because of too many concurrent requests."""

    request: Request
    images: tuple[Image, ...]
    started: float | None = None
    deadline: float | None = None
    queued: float = 0.0
    sent: float = 0.0
    first_token: float | None = None
    attempts: int = 0
    retries: int = 0
    asked_wait: float | None = None
    crowded: bool = False
    body_bytes: int = 0

    def resume(self, now: float, waited: float) -> None:
        """Start the clock, or continue it after `waited` seconds in the queue."""
        self.queued += waited
        self.sent = now
        self.first_token = None
        if self.started is None:
            self.started = now
            self.deadline = None if self.request.timeout is None else now + self.request.timeout
            return
        self.started += waited
        if self.deadline is not None:
            self.deadline += waited

    def begin_reply(self, now: float) -> None:
        """Note that a token has arrived."""
        if self.first_token is None:
            self.first_token = now

    def timing(self, now: float, computed: Timing | None = None) -> Timing:
        """`computed` are the times that the engine reports. Failed attempts and the waits after them are in no part."""
        if computed is not None:
            return replace(computed, queued=self.queued)
        if self.first_token is None:
            return Timing(queued=self.queued)
        return Timing(self.queued, self.first_token - self.sent, now - self.first_token)


class Slot:
    """Context manager that waits for a slot at the endpoint, starts the call's clock, and holds the slot."""

    __slots__ = ("_call", "_endpoint", "_holder", "_sent", "_target", "_within")

    def __init__(self, call: Call, endpoint: Endpoint, target: Target, within: float) -> None:
        self._call = call
        self._endpoint = endpoint
        self._target = target
        self._within = within

    async def __aenter__(self) -> None:
        clock = asyncio.get_running_loop().time
        asked = clock()
        try:
            self._holder = await self._endpoint.acquire(self._within)
        except TimeoutError:
            raise self._queue_is_full() from None
        self._sent = clock()
        self._call.resume(self._sent, self._sent - asked)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self._endpoint.record_answer()
        elif isinstance(error, BackendError) and _is_overload(error):
            self._call.crowded = self._endpoint.record_overload(self._sent, asyncio.get_running_loop().time())
        self._endpoint.release(self._holder)

    def _queue_is_full(self) -> TimedOut:
        error = TimedOut(
            f"{self._target.label}: not sent, because the queue did not move for {self._within:g} s",
            hint="ask fewer questions at the same time, or raise max_concurrency or queue_timeout",
        )
        error.retryable = False  # a retry would wait as long again
        return error


def _is_overload(error: BackendError) -> bool:
    """Whether the error can be caused by too many concurrent requests."""
    timed_out = isinstance(error, TimedOut) and error.limit is not None
    return (
        timed_out
        or isinstance(error, RateLimited)
        or (isinstance(error, Unavailable) and error.status in _BUSY_STATUSES)
    )
