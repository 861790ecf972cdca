"""Call stores: they keep the outcomes of calls, and prevent equal calls from being made twice.

A `CallStore` has one method, `claim`. It yields the outcome of a call if that is known, or else the exclusive right to
make the call. The right ends with the claim, also if its holder is cancelled; callers that wait for the same call then
get the outcome or, one of them, the right. A store may await anything: callers do not rely on it not yielding.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from typing import Any, Protocol

from colm_vl.backends.base import Generation, Message, Sampling
from colm_vl.team import Member
from colm_vl.types import Failure, Stage

Outcome = Generation | Failure


@lru_cache(maxsize=256)
def _plain(sampling: Sampling) -> dict[str, Any]:
    """Cached; do not modify the result."""
    return asdict(sampling)


def _spoken(messages: Iterable[Message]) -> list[Any]:
    return [
        [message.role, *(part if isinstance(part, str) else {"image": part.digest} for part in message.parts)]
        for message in messages
    ]


@dataclass(frozen=True, slots=True)
class CallKey:
    """Identifies a call: everything that its reply depends on, and its place in the protocol."""

    member: Member
    stage: Stage
    round: int
    sample: int
    messages: tuple[Message, ...]
    sampling: Sampling
    schema: Mapping[str, Any] | None = field(default=None, hash=False)
    plain: tuple[Message, ...] | None = None

    digest: str = field(init=False, repr=False, compare=False)
    """SHA-256, hex. Pictures are represented by their own digests. The messages contain the prompts and the replies of
    earlier stages, so a change to either, or to the member's settings, gives another digest. Changes to other members
    or other prompts do not."""

    def __post_init__(self) -> None:
        # Older journals, in which the verdict was not yet a separate stage, contain it as guidance.
        stage = "guide" if self.stage == "verdict" else self.stage
        settings = _plain(self.sampling)
        place: list[Any] = [self.member.name, self.member.fingerprint, stage, self.round, self.sample, settings]
        if self.schema is not None:  # keeps the digests of calls without a schema as in older journals
            place += [self.schema, _spoken(self.plain or ())]
        digest = hashlib.sha256(json.dumps([place, _spoken(self.messages)]).encode()).hexdigest()
        object.__setattr__(self, "digest", digest)


@dataclass(slots=True)
class Claim:
    """A claim on one call. If `outcome` is None, the holder makes the call and passes its outcome to `settle`.

    `paid`: the call was made for the same strategy in an earlier pass of the same run, so it does not count as reused.
    """

    outcome: Outcome | None
    paid: bool = False
    _put: Callable[[Outcome], Awaitable[None]] | None = None

    async def settle(self, outcome: Outcome) -> None:
        """Store the outcome of the call. Raises `ColmError` if that fails."""
        if self._put is not None:
            await self._put(outcome)
        self.outcome = outcome


class CallStore(Protocol):
    """Outcomes of calls by key. See the module's docstring for the contract of `claim`."""

    def claim(self, key: CallKey) -> AbstractAsyncContextManager[Claim]: ...


class CallsUnderWay:
    """A `CallStore` that keeps no outcomes. It only prevents a call from being made twice at the same time.

    If a call fails, all callers that waited for it get the failure; otherwise each would retry in turn and wait for
    one timeout after the other. Later callers retry the call. Subclasses that keep outcomes override `_get` and `_put`.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[Outcome | None]] = {}

    @asynccontextmanager
    async def claim(self, key: CallKey) -> AsyncGenerator[Claim, None]:
        while (call := self._under_way.get(key.digest)) is not None:
            # Not awaited directly: a cancelled caller would cancel the future for all others.
            await asyncio.wait([call])
            if (outcome := call.result()) is not None:
                yield Claim(outcome)
                return
        # Registered before anything is awaited, so that only one caller makes the call even if `_get` yields.
        call = self._under_way[key.digest] = asyncio.get_running_loop().create_future()
        claim = Claim(None, _put=partial(self._put, key))
        try:
            claim.outcome = await self._get(key)
            yield claim
        finally:
            del self._under_way[key.digest]
            call.set_result(claim.outcome)

    async def _get(self, key: CallKey) -> Outcome | None:
        return None

    async def _put(self, key: CallKey, outcome: Outcome) -> None:
        pass


class MemoryStore:
    """A `CallStore` that keeps outcomes in memory.

    It keeps generations with their handles, so that a later stage or strategy can continue a conversation, and
    failures, so that no other strategy waits for the same member again. Unknown calls are claimed from the store
    `behind`, if there is one.
    """

    def __init__(self, behind: CallStore | None = None) -> None:
        self._behind = CallsUnderWay() if behind is None else behind
        self._outcomes: dict[str, Outcome] = {}

    @asynccontextmanager
    async def claim(self, key: CallKey) -> AsyncGenerator[Claim, None]:
        if (known := self._outcomes.get(key.digest)) is not None:
            yield Claim(known)
            return
        async with self._behind.claim(key) as claim:
            # The outcome may have been stored while this caller waited for the claim.
            claim.outcome = claim.outcome or self._outcomes.get(key.digest)
            yield claim
            if claim.outcome is not None:
                self._outcomes[key.digest] = claim.outcome
