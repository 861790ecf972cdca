"""What all members that use one endpoint share: its places, and what it turned out to take."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
        self._places = anyio.CapacityLimiter(float("inf"))

    @classmethod
    def shared(cls, base_url: str, places: int) -> Endpoint:
        """The endpoint at this address, with at most `places` requests in flight from now on. Needs a running loop."""
        known = _ENDPOINTS.get(None)
        if known is None:
            known = WeakValueDictionary[str, Endpoint]()
            _ENDPOINTS.set(known)
        endpoint = known.setdefault(base_url, cls(base_url))
        endpoint._places.total_tokens = min(endpoint._places.total_tokens, places)
        return endpoint

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Waits for a place and holds it. Not bound to a task: a stream may be closed by another than opened it."""
        holder = object()
        await self._places.acquire_on_behalf_of(holder)
        try:
            yield
        finally:
            self._places.release_on_behalf_of(holder)

    def learn_refusal(self, model: str, parameter: str) -> None:
        if parameter not in self.refused[model]:
            self.refused[model].add(parameter)
            if parameter in ("temperature", "top_p", "seed"):
                _log.warning("%r at %s takes no %s: it is asked without from now on", model, self.base_url, parameter)

    def learn_logprobs(self, model: str, *, given: bool) -> None:
        self.gives_logprobs[model] = given
        if not given:
            self.learn_refusal(model, "logprobs")
