"""Calls kept in memory, so that strategies asked about one question share what they have in common."""

from __future__ import annotations

from colm_vl.backends.base import Generation
from colm_vl.run import CallKey, CallStore
from colm_vl.types import Failure


class MemoryStore:
    """The calls of one question: whole generations, handles included, so that a later stage can still continue a
    conversation; and failures, so that no strategy waits again for a member that failed. What it does not know,
    `behind` may; `behind` is told as well."""

    def __init__(self, behind: CallStore | None = None) -> None:
        self._outcomes: dict[str, Generation | Failure] = {}
        self._behind = behind

    async def get(self, key: CallKey) -> Generation | Failure | None:
        known = self._outcomes.get(key.digest)
        if known is None and self._behind is not None:
            known = await self._behind.get(key)
            if known is not None:
                self._outcomes[key.digest] = known
        return known

    async def put(self, key: CallKey, outcome: Generation | Failure) -> None:
        self._outcomes[key.digest] = outcome
        if self._behind is not None:
            await self._behind.put(key, outcome)
