"""What all members that use one endpoint share: its places, and what it turned out to take.

The number of places follows what the endpoint takes, as TCP's congestion window does (additive increase,
multiplicative decrease): it starts at the members' `max_concurrency`, is halved when requests are refused for their
number or time out, and grows by one for each round of answers.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import defaultdict
from weakref import WeakValueDictionary

import anyio
from anyio.lowlevel import RunVar

_log = logging.getLogger(__name__)

# For each event loop, the endpoints that some backend uses in it: limiters belong to a loop, and two loops of one
# process (tests, notebooks) count apart.
_ENDPOINTS: RunVar[WeakValueDictionary[str, Endpoint]] = RunVar("colm_vl.backends.openai.endpoints")


class Endpoint:
    """An address, within one event loop.

    `refused[model]` are the parameters of a request that it does not take for that model, learnt from its replies.
    `gives_logprobs` has the models of which it is known whether they do.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.refused: defaultdict[str, set[str]] = defaultdict(set)
        self.gives_logprobs: dict[str, bool] = {}
        self._limiter = anyio.CapacityLimiter(math.inf)
        self._most = math.inf  # requests in flight that the members allow
        self._room = math.inf  # those that the endpoint seems to take
        self._lowered = -math.inf  # when that was lowered last

    @classmethod
    def shared(cls, base_url: str, most: int) -> Endpoint:
        """The endpoint at this address, with at most `most` requests in flight from now on. Needs a running loop."""
        known = _ENDPOINTS.get(None)
        if known is None:
            known = WeakValueDictionary[str, Endpoint]()
            _ENDPOINTS.set(known)
        endpoint = known.setdefault(base_url, cls(base_url))
        endpoint._most = min(endpoint._most, most)
        endpoint._set_room(endpoint._room)
        return endpoint

    async def acquire(self, within: float) -> object:
        """Wait for a place, first come, first served. Raises TimeoutError after `within` seconds. What is returned is
        given to `release`: a place is not bound to a task, since a stream may be closed by another than opened it."""
        place = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(place)
        except anyio.WouldBlock:
            async with asyncio.timeout(within):
                await self._limiter.acquire_on_behalf_of(place)
        return place

    def release(self, place: object) -> None:
        self._limiter.release_on_behalf_of(place)

    def took(self) -> None:
        """A request was answered. While all places are in use, each round of answers makes one more."""
        if self._room < self._most and self._limiter.borrowed_tokens >= self._limiter.total_tokens:
            self._set_room(self._room + 1 / self._room)

    def refused_load(self, sent: float, now: float) -> bool:
        """A request, sent at `sent`, was refused or not answered for what looks like too many at once: half as many
        from now on. Requests that had been sent before the last such change tell nothing new. Returns whether others
        were in flight as well."""
        in_flight = self._limiter.borrowed_tokens
        if sent >= self._lowered:
            self._lowered = now
            self._set_room(min(self._room, in_flight) / 2)
            _log.info("%s gets %g requests at once from now on", self.base_url, self._limiter.total_tokens)
        return in_flight > 1

    def _set_room(self, room: float) -> None:
        self._room = min(max(room, 1.0), self._most)
        self._limiter.total_tokens = math.floor(self._room)

    def learn_refusal(self, model: str, parameter: str) -> None:
        if parameter not in self.refused[model]:
            self.refused[model].add(parameter)
            if parameter in ("temperature", "top_p", "seed"):
                _log.warning("%r at %s takes no %s: it is asked without from now on", model, self.base_url, parameter)
            elif parameter == "response_format":
                _log.info("%r at %s takes no JSON schema: it is asked for lines from now on", model, self.base_url)

    def learn_logprobs(self, model: str, *, given: bool) -> None:
        self.gives_logprobs[model] = given
        if not given:
            self.learn_refusal(model, "logprobs")
