"""Finished calls kept in memory, so that strategies asked about one question share what they have in common."""

from __future__ import annotations

from colm_vl.backends.base import Generation
from colm_vl.run import CallKey


class MemoryStore:
    """Holds whole generations, handles included, so that a later stage can still continue a conversation."""

    def __init__(self) -> None:
        self._finished: dict[str, Generation] = {}

    async def get(self, key: CallKey) -> Generation | None:
        return self._finished.get(key.digest)

    async def put(self, key: CallKey, generation: Generation) -> None:
        self._finished[key.digest] = generation
