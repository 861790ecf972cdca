"""State shared by all members that use the same endpoint: its concurrency limit, and which parameters it supports.

The concurrency limit adapts like TCP's congestion window (additive increase, multiplicative decrease). It starts at the
members' `max_concurrency`. It is halved when requests time out or are refused because there are too many, and grows by
one for each round of answers.
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

# The endpoints in use, for each event loop: limiters belong to a loop, so two loops of one process (tests, notebooks)
# have separate limits.
_ENDPOINTS: RunVar[WeakValueDictionary[str, Endpoint]] = RunVar("colm_vl.backends.openai.endpoints")


class Endpoint:
    """An endpoint within one event loop.

    `refused[model]` are the parameters that it refused for that model. `gives_logprobs` says for which models it
    returns log-probabilities, as far as is known.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.refused: defaultdict[str, set[str]] = defaultdict(set)
        self.gives_logprobs: dict[str, bool] = {}
        self._limiter = anyio.CapacityLimiter(math.inf)
        self._most = math.inf  # concurrent requests that the members allow
        self._room = math.inf  # concurrent requests that the endpoint seems to accept
        self._lowered = -math.inf  # when `_room` was last reduced

    @classmethod
    def shared(cls, base_url: str, most: int) -> Endpoint:
        """The endpoint at this address, now limited to `most` concurrent requests. Requires a running event loop."""
        known = _ENDPOINTS.get(None)
        if known is None:
            known = WeakValueDictionary[str, Endpoint]()
            _ENDPOINTS.set(known)
        endpoint = known.setdefault(base_url, cls(base_url))
        endpoint._most = min(endpoint._most, most)
        endpoint._set_room(endpoint._room)
        return endpoint

    async def acquire(self, within: float) -> object:
        """Wait for a slot, in order of arrival. Raises `TimeoutError` after `within` seconds. Pass the result to
        `release`; it does not belong to a task, since a stream can be closed in another task than the one that opened
        it."""
        place = object()
        try:
            self._limiter.acquire_on_behalf_of_nowait(place)
        except anyio.WouldBlock:
            async with asyncio.timeout(within):
                await self._limiter.acquire_on_behalf_of(place)
        return place

    def release(self, place: object) -> None:
        self._limiter.release_on_behalf_of(place)

    def record_answer(self) -> None:
        """Record that a request was answered. While all slots are in use, each round of answers adds one."""
        if self._room < self._most and self._limiter.borrowed_tokens >= self._limiter.total_tokens:
            self._set_room(self._room + 1 / self._room)

    def record_overload(self, sent: float, now: float) -> bool:
        """Record that a request sent at `sent` was refused or not answered, probably because of too many concurrent
        requests, and halve the limit. Requests sent before the last reduction are ignored. Returns whether there were
        other concurrent requests."""
        in_flight = self._limiter.borrowed_tokens
        if sent >= self._lowered:
            self._lowered = now
            self._set_room(min(self._room, in_flight) / 2)
            _log.info("%s: reduced to %g concurrent requests", self.base_url, self._limiter.total_tokens)
        return in_flight > 1

    def _set_room(self, room: float) -> None:
        self._room = min(max(room, 1.0), self._most)
        self._limiter.total_tokens = math.floor(self._room)

    def learn_refusal(self, model: str, parameter: str) -> None:
        if parameter not in self.refused[model]:
            self.refused[model].add(parameter)
            if parameter in ("temperature", "top_p", "seed"):
                _log.warning("%r at %s refused %s; it is no longer sent", model, self.base_url, parameter)
            elif parameter == "response_format":
                _log.info(
                    "%r at %s does not support JSON schemas; it is asked for lines from now on", model, self.base_url
                )

    def learn_logprobs(self, model: str, *, given: bool) -> None:
        self.gives_logprobs[model] = given
        if not given:
            self.learn_refusal(model, "logprobs")
