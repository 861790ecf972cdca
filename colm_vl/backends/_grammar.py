"""Decoding under a JSON schema: computes which tokens can come next in a reply.

The masks are computed by llguidance. It supports lengths, enumerations and ranges of numbers, has no dependencies, and
is ready within milliseconds. xgrammar took 23 s to compile the schema of a reply for a vocabulary of 150,000 tokens and
depends on Triton; outlines-core took 30 s and ignores ranges of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from colm_vl.backends.registry import require
from colm_vl.errors import BackendError, InputError, Unsupported

# White space as in `json.dumps`: if more is allowed, small models can write white space without end.
_PLAIN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MOST_SCHEMAS = 256


class Grammars:
    """The compiled schemas of one model. Not thread-safe."""

    def __init__(self, tokenizer: Any, vocabulary: int, stops: frozenset[int]) -> None:
        """`vocabulary` is the number of the model's scores, often greater than the number of the tokenizer's tokens."""
        self._tokenizer = tokenizer
        self._size = max(vocabulary, len(tokenizer))
        self._stops = stops
        self._known: Any = None
        # Unused matchers by schema. Reusing one is faster than making one, and it has cached its earlier states.
        self._free: dict[str, list[Any]] = {}

    def begin(self, schema: Mapping[str, Any]) -> Constraint:
        """The constraint for a reply under `schema`. Raises `InputError` if the schema is not supported, and
        `Unsupported` if llguidance does not support the tokenizer."""
        key = json.dumps(schema)
        free = self._free.setdefault(key, [])
        if len(self._free) > _MOST_SCHEMAS:
            del self._free[next(iter(self._free))]
        return Constraint(free.pop() if free else self._matcher(key), free, self._size)

    def _matcher(self, schema: str) -> Any:
        llguidance = require("llguidance", "local")
        if self._known is None:
            self._known = self._vocabulary()
        matcher = llguidance.LLMatcher(
            self._known, llguidance.LLMatcher.grammar_from_json_schema(schema, overrides=_PLAIN), log_level=0
        )
        if matcher.is_error():
            reason = " ".join(matcher.get_error().split())[:200]
            raise InputError(f"unsupported schema {schema[:80]}: {reason}", hint="simplify the schema")
        return matcher

    def _vocabulary(self) -> Any:
        from llguidance import hf

        try:
            return hf.from_tokenizer(self._tokenizer, n_vocab=self._size, eos_token=sorted(self._stops) or None)
        except (ValueError, AttributeError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise Unsupported(
                f"this model does not support schemas: {reason}", hint='set reply_format = "lines"'
            ) from None


class Constraint:
    """The state of one reply under its schema."""

    def __init__(self, matcher: Any, free: list[Any], size: int) -> None:
        self._matcher = matcher
        self._free = free
        self.size = size

    def allow(self, masks: Any, row: int) -> None:
        """Set the bits of the tokens that can come next. `masks` is an array with rows of 32-bit words."""
        words = masks[row]
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)

    def take(self, token: int) -> bool:
        """Add the token that was drawn. Returns whether the reply is complete, so that nothing can follow."""
        if not self._matcher.consume_token(token):
            raise BackendError(f"decoding under a schema failed: {self._matcher.get_error()[:200]}")
        return bool(self._matcher.is_stopped())

    def end(self) -> None:
        """End the reply, complete or not, and release the matcher for the next reply under this schema."""
        if self._matcher is not None and self._matcher.reset():
            self._free.append(self._matcher)
        self._matcher = None


def allowed(constraints: Sequence[Constraint | None], width: int) -> Any:
    """Which of `width` tokens can come next in each row, as a boolean array. All of them in rows without a
    constraint."""
    import numpy as np

    size = max(constraint.size for constraint in constraints if constraint)
    masks = np.full((len(constraints), (size + 31) // 32), -1, dtype=np.int32)
    for row, constraint in enumerate(constraints):
        if constraint:
            constraint.allow(masks, row)
    bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little", count=max(width, size))
    return bits[:, :width].view(np.bool_)
