"""A prefix cache: keys and values of conversations, kept so that the next turn need not compute them again.

An entry holds the tokens, the digests of the pictures (whose tokens are all the same), the keys and values of every
layer and, for Qwen-VL, `rope_deltas`, the difference between positions and token count after pictures. transformers
stores the last on the model, where any other request overwrites it.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Kept:
    """`ids` and the keys and values of `layers` (pairs of 1 × heads × tokens × size) have equal lengths."""

    ids: tuple[int, ...]
    pictures: tuple[str, ...]
    layers: tuple[tuple[Any, Any], ...]
    rope_deltas: Any

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for pair in self.layers for tensor in pair)


class Handle:
    """The `handle` of a `Generation`. Its conversation is freed with it, or earlier if memory is needed."""

    def __init__(self, store: PrefixStore) -> None:
        self.store = store
        self.kept: Kept | None = None


class PrefixStore:
    """The handles of one model, limited to `limit` bytes. The oldest are freed first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._handles: list[weakref.ref[Handle]] = []

    def keep(self, handle: Handle, kept: Kept) -> None:
        handle.kept = kept
        self._handles.append(weakref.ref(handle))
        alive = [(ref, held.kept.bytes) for ref in self._handles if (held := ref()) is not None and held.kept]
        excess = sum(size for _, size in alive) - self.limit
        for ref, size in alive:
            if excess <= 0:
                break
            _forget(ref())
            excess -= size
        self._handles = [ref for ref, _ in alive if (held := ref()) is not None and held.kept]

    def clear(self) -> None:
        for ref in self._handles:
            _forget(ref())
        self._handles = []

    def find(self, handle: object, pictures: tuple[str, ...]) -> Kept | None:
        """The entry of `handle`, if it belongs to this model and has the same pictures."""
        if not isinstance(handle, Handle) or handle.store is not self or handle.kept is None:
            return None
        return handle.kept if handle.kept.pictures == pictures else None


@dataclass(frozen=True, slots=True)
class Prefix:
    """The inputs of a batch whose beginning is cached. `cached`: the number of cached tokens of each row."""

    inputs: dict[str, Any]
    rope_deltas: Any
    cached: tuple[int, ...]


def resume(kept: Sequence[Kept], inputs: dict[str, Any], picture_token: int | None) -> Prefix | None:
    """Inputs for `generate` that replace `inputs`, a left-padded batch whose rows continue `kept`.

    `generate` computes the same number of tokens at the end of each row: as many as the row with the fewest cached
    tokens needs. None if these would include a picture, or if nothing is cached.
    """
    import torch
    from transformers import DynamicCache

    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    rows = [row[seen.bool()].tolist() for row, seen in zip(ids, mask, strict=True)]
    fresh = max(len(row) - _shared(row[:-1], one.ids) for row, one in zip(rows, kept, strict=True))
    cached = tuple(len(row) - fresh for row in rows)
    if min(cached) <= 0 or (picture_token is not None and bool((ids[:, -fresh:] == picture_token).any())):
        return None
    width = ids.shape[1] - fresh
    cache = DynamicCache()
    for layer in range(len(kept[0].layers)):
        keys, values = (
            torch.cat(
                [_fitted(one.layers[layer][which], count, width) for one, count in zip(kept, cached, strict=True)]
            )
            for which in (0, 1)
        )
        cache.update(keys, values, layer)
    deltas = None if kept[0].rope_deltas is None else torch.cat([one.rope_deltas for one in kept])
    return Prefix({"input_ids": ids, "attention_mask": mask, "past_key_values": cache}, deltas, cached)


def cut_out(cache: Any, row: int, start: int, count: int) -> tuple[tuple[Any, Any], ...] | None:
    """The keys and values of one row, `count` tokens from `start`. None if the cache drops or compresses tokens."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if not isinstance(cache, DynamicCache) or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    part = (slice(row, row + 1), slice(None), slice(start, start + count))
    # Copied, because a view would keep the tensors of the whole batch in memory.
    return tuple((layer.keys[part].clone(), layer.values[part].clone()) for layer in cache.layers)


def _shared(row: Sequence[int], ids: Sequence[int]) -> int:
    """The length of the common prefix."""
    for index, (one, other) in enumerate(zip(row, ids, strict=False)):
        if one != other:
            return index
    return min(len(row), len(ids))


def _fitted(tensor: Any, count: int, width: int) -> Any:
    """The first `count` tokens, padded on the left to `width`; the attention mask hides the padding."""
    import torch

    return torch.nn.functional.pad(tensor[:, :, :count], (0, 0, width - count, 0))


def _forget(handle: Handle | None) -> None:
    if handle is not None:
        handle.kept = None
