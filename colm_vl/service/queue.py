"""A queue for the places at the server, fair between callers: deficit round robin, by estimated tokens.

Shreedhar and Varghese, "Efficient Fair Queuing Using Deficit Round Robin", SIGCOMM 1995. A caller with one waiting call
is served after at most one turn of each other caller, however many calls they have waiting. The estimate of a call is
corrected once its tokens are known, so that a wrong estimate gives no advantage.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from colm_vl.errors import RateLimited

QUANTUM = 256.0
"""Tokens that a caller of weight 1 may use in each turn."""
_MINUTE = 60.0
_DAY = 86_400.0
_LONGEST_RETRY = 60.0
_SMOOTHING = 0.1


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of a caller; None for no limit.

    `at_once` are calls of the server; further ones wait in the queue. A call is refused if its estimate exceeds what is
    left of `tokens_per_day`; what it has used is counted. A day begins at midnight UTC.
    """

    requests_per_minute: int | None = None
    at_once: int | None = None
    tokens_per_day: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose calls are queued together: the holder of a key. While several callers wait, each gets tokens in proportion
    to its weight."""

    name: str
    weight: float = 1.0
    quota: Quota = Quota()


class Refusal(RateLimited):
    """A request or call is not accepted now. `status` is 429 if the caller exceeded its limits, 503 if the whole queue
    is full; `retry_after` is in seconds."""

    kind = "not_admitted"


class Ticket:
    """A call that waits in the queue or has a place."""

    __slots__ = ("_flow", "_queue", "_turn", "arrived", "begun", "cost", "tokens")

    def __init__(self, queue: FairQueue, flow: _Flow, cost: int) -> None:
        self.cost = cost
        self.tokens: int | None = None
        """What the call has used, set by its holder when it is known. A call that fails costs its estimate unless it
        is set."""
        self.begun: float | None = None
        """When it got its place, or None while it waits."""
        self.arrived = queue._clock()
        self._queue = queue
        self._flow = flow
        self._turn = asyncio.get_running_loop().create_future()

    @property
    def waited(self) -> float:
        """Seconds in the queue."""
        return (self._queue._clock() if self.begun is None else self.begun) - self.arrived

    @property
    def ahead(self) -> int:
        """How many waiting calls will be served before this one, as it looks now; 0 once it has a place."""
        return self._queue._ahead_of(self)

    async def turn(self, within: float | None = None) -> None:
        """Wait for the place, for at most `within` seconds."""
        if self.begun is None:
            # Not awaited directly: what is granted to a caller that is being cancelled is given back when it leaves.
            await asyncio.wait([self._turn], timeout=within)


@dataclass(slots=True)
class _Flow:
    """The calls of one caller. `deficit` are the tokens that it may still use in this turn; a negative value is a debt
    from calls that used more than estimated."""

    caller: Caller
    waiting: deque[Ticket] = field(default_factory=deque)
    serving: int = 0
    deficit: float = 0.0
    granted: bool = False
    in_ring: bool = False
    requests: deque[float] = field(default_factory=deque)
    day: int = 0
    tokens_today: int = 0

    @property
    def may_begin(self) -> bool:
        most = self.caller.quota.at_once
        return bool(self.waiting) and (most is None or self.serving < most)

    @property
    def grant(self) -> float:
        return QUANTUM * self.caller.weight


class FairQueue:
    """Up to `places` calls are served at the same time; the others wait, at most `max_waiting` of them, and at most
    `max_waiting_each` of one caller. Belongs to one event loop. `clock` is in seconds, `now` is the Unix time."""

    def __init__(
        self,
        places: int,
        *,
        max_waiting: int = 1024,
        max_waiting_each: int = 256,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.places = places
        self.max_waiting = max_waiting
        self.max_waiting_each = max_waiting_each
        self.waiting = 0
        self.serving = 0
        self._clock = clock
        self._now = now
        self._seconds = 1.0  # a call, as a moving average
        self._flows: dict[str, _Flow] = {}
        self._ring: deque[_Flow] = deque()  # the flows whose next call may begin, the one whose turn it is first

    def admit(self, caller: Caller) -> None:
        """Count one request of this caller. Raises `Refusal`, and does not count it, if a quota is used up or there is
        no room in the queue."""
        flow, quota = self._flow(caller), caller.quota
        now = self._clock()
        while flow.requests and now - flow.requests[0] >= _MINUTE:
            flow.requests.popleft()
        if quota.requests_per_minute is not None and len(flow.requests) >= quota.requests_per_minute:
            wait = flow.requests[0] + _MINUTE - now if flow.requests else _MINUTE
            raise _exceeded(f"{quota.requests_per_minute} requests a minute", wait)
        self._check_tokens(flow, 1)
        self._check_room(flow)
        if quota.requests_per_minute is not None:
            flow.requests.append(now)

    @contextmanager
    def place(self, caller: Caller, cost: int) -> Generator[Ticket, None, None]:
        """A place in the queue, and from the ticket's `turn` on at the server; it is given back at the end. `cost` is
        an estimate of the call's tokens. Raises `Refusal`."""
        flow, cost = self._flow(caller), max(1, cost)
        self._check_tokens(flow, cost)
        self._check_room(flow)
        ticket = Ticket(self, flow, cost)
        flow.tokens_today += cost
        flow.waiting.append(ticket)
        self.waiting += 1
        self._place_in_ring(flow)
        self._serve()
        try:
            yield ticket
        finally:
            self._leave(ticket)

    def tokens_today(self, caller: Caller) -> int:
        """Includes the estimates of the calls that wait or have a place."""
        flow = self._flow(caller)
        self._begin_day(flow)
        return flow.tokens_today

    def set_tokens_today(self, caller: Caller, tokens: int) -> None:
        """Continue a count of before this process was started."""
        flow = self._flow(caller)
        self._begin_day(flow)
        flow.tokens_today = tokens

    @property
    def retry_after(self) -> float:
        """Seconds after which there should be room in a full queue."""
        return min(_LONGEST_RETRY, max(1.0, self._seconds * self.waiting / self.places / 2))

    # --- limits ---

    def _flow(self, caller: Caller) -> _Flow:
        flow = self._flows.get(caller.name)
        if flow is None:
            flow = self._flows[caller.name] = _Flow(caller)
        if flow.caller is not caller:  # its weight or quota may have changed
            flow.caller = caller
            self._place_in_ring(flow)
        return flow

    def _check_room(self, flow: _Flow) -> None:
        at_limit = flow.caller.quota.at_once is not None and flow.serving >= flow.caller.quota.at_once
        if self.serving < self.places and not at_limit:
            return
        if len(flow.waiting) >= self.max_waiting_each:
            raise Refusal(
                f"{len(flow.waiting)} calls of this key are waiting, which is the limit",
                hint="ask fewer questions at the same time",
                status=429,
                retry_after=self.retry_after,
            )
        if self.waiting >= self.max_waiting:
            raise Refusal(
                f"the queue is full with {self.waiting} calls",
                hint="try again later",
                status=503,
                retry_after=self.retry_after,
            )

    def _check_tokens(self, flow: _Flow, cost: int) -> None:
        most = flow.caller.quota.tokens_per_day
        self._begin_day(flow)
        if most is not None and flow.tokens_today + cost > most:
            raise _exceeded(f"{most:,} tokens a day", _DAY - self._now() % _DAY)

    def _begin_day(self, flow: _Flow) -> None:
        day = int(self._now() // _DAY)
        if day != flow.day:
            flow.day, flow.tokens_today = day, 0

    # --- scheduling ---

    def _serve(self) -> None:
        while self.serving < self.places and (ticket := self._pick()):
            flow = ticket._flow
            flow.serving += 1
            self.serving += 1
            self._place_in_ring(flow)
            ticket.begun = self._clock()
            ticket._turn.set_result(None)

    def _pick(self) -> Ticket | None:
        """Take the next call out of its flow, which stays at the head of the ring."""
        passed = 0
        while self._ring:
            flow = self._ring[0]
            if not flow.granted:
                flow.deficit += flow.grant
                flow.granted = True
            if flow.waiting[0].cost <= flow.deficit:
                ticket = flow.waiting.popleft()
                self.waiting -= 1
                flow.deficit -= ticket.cost
                return ticket
            flow.granted = False
            self._ring.rotate(-1)
            passed += 1
            if passed == len(self._ring):
                self._skip_rounds()
                passed = 0
        return None

    def _skip_rounds(self) -> None:
        """Grant at once what the rounds would in which no flow could afford its next call."""
        lacking = (math.ceil((flow.waiting[0].cost - flow.deficit) / flow.grant) for flow in self._ring)
        rounds = min(lacking) - 1
        for flow in self._ring:
            flow.deficit += rounds * flow.grant

    def _place_in_ring(self, flow: _Flow) -> None:
        """To be called after each change to a flow. One without waiting calls loses what it has saved, but not its
        debt."""
        if flow.may_begin and not flow.in_ring:
            self._ring.append(flow)
        elif flow.in_ring and not flow.may_begin:
            self._ring.remove(flow)
            flow.granted = False
        flow.in_ring = flow.may_begin
        if not flow.waiting:
            flow.deficit = min(0.0, flow.deficit)

    def _leave(self, ticket: Ticket) -> None:
        flow = ticket._flow
        if ticket.begun is None:
            self._count(flow, -ticket.cost)
            flow.waiting.remove(ticket)
            self.waiting -= 1
        else:
            self.serving -= 1
            flow.serving -= 1
            self._settle(ticket)
        self._place_in_ring(flow)
        self._serve()

    def _settle(self, ticket: Ticket) -> None:
        """Replace the estimate by what was used."""
        assert ticket.begun is not None
        self._seconds += _SMOOTHING * (self._clock() - ticket.begun - self._seconds)
        if ticket.tokens is not None:
            flow, more = ticket._flow, ticket.tokens - ticket.cost
            self._count(flow, more)
            flow.deficit -= more

    def _count(self, flow: _Flow, tokens: int) -> None:
        self._begin_day(flow)
        flow.tokens_today = max(0, flow.tokens_today + tokens)

    def _ahead_of(self, ticket: Ticket) -> int:
        flow = ticket._flow
        if ticket not in flow.waiting:
            return 0
        own = flow.waiting.index(ticket)
        turns = (own + 1) / flow.caller.weight
        others = (other for other in self._ring if other is not flow)
        return own + sum(min(len(other.waiting), math.floor(turns * other.caller.weight)) for other in others)


def _exceeded(what: str, wait: float) -> Refusal:
    seconds = max(1.0, math.ceil(wait))
    return Refusal(f"the quota of this key is {what}", hint=f"try again in {seconds:.0f} s", retry_after=seconds)
