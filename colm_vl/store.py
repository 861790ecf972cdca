"""Finished calls, and who is making the others.

The contract of a `CallStore` is one method. `claim` gives the outcome of a call where it is known, or else the
exclusive right to make it. The right ends with the claim, also if its holder is cancelled; whoever waits for the same
call then gets the outcome or the right. A store may await whatever it needs to: nothing relies on its not yielding.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
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
    """Not to be changed: it is kept for the next call with the same sampling."""
    return asdict(sampling)


@dataclass(frozen=True, slots=True)
class CallKey:
    """What makes two calls the same call: everything that the reply depends on, and where in the protocol it stands."""

    member: Member
    stage: Stage
    round: int
    sample: int
    messages: tuple[Message, ...]
    sampling: Sampling

    digest: str = field(init=False, repr=False, compare=False)
    """SHA-256, hex. Pictures count by their own digest. The prompts and what earlier stages wrote are in the messages,
    so a change of either, or of the member's settings, is another call; a change of others is not."""

    def __post_init__(self) -> None:
        spoken = [
            [message.role, *(part if isinstance(part, str) else {"image": part.digest} for part in message.parts)]
            for message in self.messages
        ]
        # Journals from before the verdict was a stage of its own know it as guidance.
        stage = "guide" if self.stage == "verdict" else self.stage
        place = [self.member.name, self.member.fingerprint, stage, self.round, self.sample, _plain(self.sampling)]
        digest = hashlib.sha256(json.dumps([place, spoken]).encode()).hexdigest()
        object.__setattr__(self, "digest", digest)


@dataclass(slots=True)
class Claim:
    """What a store says of one call. Without an `outcome` the holder is to make the call and to `settle` it.

    `paid`: the outcome was known, but it is this very strategy that had the call made, in an earlier pass of the same
    run; it is not to be counted as reused.
    """

    outcome: Outcome | None
    paid: bool = False
    _put: Callable[[Outcome], Awaitable[None]] | None = None

    async def settle(self, outcome: Outcome) -> None:
        """The call was made: keep what came of it. Raises `ColmError` if the store cannot keep it."""
        if self._put is not None:
            await self._put(outcome)
        self.outcome = outcome


class CallStore(Protocol):
    """Finished calls by key, and the right to make the others."""

    def claim(self, key: CallKey) -> AbstractAsyncContextManager[Claim]: ...


class CallsUnderWay:
    """A `CallStore` that keeps nothing: it only sees to it that no call is made twice at the same time.

    A failure belongs to everybody who waited for the call: if each tried in turn, they would wait for one time-out
    after the other. Whoever asks later tries again. Subclasses that keep outcomes override `_get` and `_put`.
    """

    def __init__(self) -> None:
        self._under_way: dict[str, asyncio.Future[Outcome | None]] = {}

    @asynccontextmanager
    async def claim(self, key: CallKey) -> AsyncGenerator[Claim, None]:
        while (call := self._under_way.get(key.digest)) is not None:
            # Not the future itself: a cancelled caller would cancel it for all who wait.
            await asyncio.wait([call])
            if (outcome := call.result()) is not None:
                yield Claim(outcome)
                return
        # The place is taken before anything is awaited, so that a store which yields gives it to one caller only.
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
    """A `CallStore` that remembers what was asked through it: whole generations, handles included, so that a later
    stage or strategy can continue a conversation; and failures, so that no strategy waits again for a member that
    failed.

    What it does not know is claimed of the store `behind` it, if there is one.
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
            # It may have become known while this claim was waited for.
            claim.outcome = claim.outcome or self._outcomes.get(key.digest)
            yield claim
            if claim.outcome is not None:
                self._outcomes[key.digest] = claim.outcome
