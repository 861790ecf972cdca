"""Calls that several questions need at the same time: one makes them, the others wait."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from colm_vl.backends.base import Generation
from colm_vl.run import CallKey, CallStore
from colm_vl.types import Failure


class Shared:
    """A `CallStore` to which calls under way are known as well: whoever asks for one of them waits for its outcome.

    A failure is everybody's who waited: if each tried in turn, they would wait for one time-out after the other.
    Whoever asks later tries again.
    """

    def __init__(self, behind: CallStore) -> None:
        self._behind = behind
        self._under_way: dict[str, asyncio.Future[Generation | Failure | None]] = {}

    async def get(self, key: CallKey) -> Generation | Failure | None:
        while (call := self._under_way.get(key.digest)) is not None:
            # Not the future itself: a cancelled caller would cancel it for all who wait.
            await asyncio.wait([call])
            if (outcome := call.result()) is not None:
                return outcome
        return await self._behind.get(key)

    def begin(self, key: CallKey) -> None:
        """Who was told None makes the call, and ends it with `put` or `abandon`."""
        self._under_way[key.digest] = asyncio.get_running_loop().create_future()

    async def put(self, key: CallKey, outcome: Generation | Failure) -> None:
        await self._behind.put(key, outcome)
        self._under_way.pop(key.digest).set_result(outcome)

    def abandon(self, digests: Iterable[str]) -> None:
        """These calls will not be made after all: one of those who wait for each makes it."""
        for digest in digests:
            self._under_way.pop(digest).set_result(None)
