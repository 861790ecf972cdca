"""Decoding under a JSON schema: which tokens a reply may go on with.

The masks come from llguidance. It follows lengths, enumerations and ranges of numbers, needs no other package, and is
ready within milliseconds; xgrammar took 23 s to compile the schema of a reply for a vocabulary of 150,000 tokens and
brings Triton, outlines-core took 30 s and does not heed ranges of numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from colm_vl.backends.registry import require
from colm_vl.errors import BackendError, InputError, Unsupported

# White space as in `json.dumps`: where any is allowed, small models write nothing else.
_PLAIN = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_MOST_SCHEMAS = 256


class Grammars:
    """The schemas that were asked for of one model. Belongs to one thread."""

    def __init__(self, tokenizer: Any, vocabulary: int, stops: frozenset[int]) -> None:
        """`vocabulary` is how many scores the model gives; often that is more than the tokenizer has tokens."""
        self._tokenizer = tokenizer
        self._size = max(vocabulary, len(tokenizer))
        self._stops = stops
        self._known: Any = None
        # Those that are free. Preparing one takes longer than using one again, which also knows what it met before.
        self._free: dict[str, list[Any]] = {}

    def begin(self, schema: Mapping[str, Any]) -> Constraint:
        """What a reply under `schema` is held to. Raises `InputError` for a schema that cannot be followed, and
        `Unsupported` for a tokenizer that llguidance does not know."""
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
            raise InputError(f"no reply can be held to the schema {schema[:80]}: {reason}", hint="simplify the schema")
        return matcher

    def _vocabulary(self) -> Any:
        from llguidance import hf

        try:
            return hf.from_tokenizer(self._tokenizer, n_vocab=self._size, eos_token=sorted(self._stops) or None)
        except (ValueError, AttributeError, TypeError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise Unsupported(
                f"replies of this model cannot be held to a schema: {reason}", hint='set reply_format = "lines"'
            ) from None


class Constraint:
    """One reply under its schema."""

    def __init__(self, matcher: Any, free: list[Any], size: int) -> None:
        self._matcher = matcher
        self._free = free
        self.size = size

    def allow(self, masks: Any, row: int) -> None:
        """Sets the bits of the tokens that may come next. `masks` is an array of rows of 32-bit words."""
        words = masks[row]
        self._matcher.unsafe_compute_mask_ptr(words.ctypes.data, words.nbytes)

    def take(self, token: int) -> bool:
        """The token that was drawn. Returns whether the reply is complete, so that nothing may follow."""
        if not self._matcher.consume_token(token):
            raise BackendError(f"decoding under a schema failed: {self._matcher.get_error()[:200]}")
        return bool(self._matcher.is_stopped())

    def end(self) -> None:
        """The reply is over, complete or not: the next one under this schema may have the matcher."""
        if self._matcher is not None and self._matcher.reset():
            self._free.append(self._matcher)
        self._matcher = None


def allowed(constraints: Sequence[Constraint | None], width: int) -> Any:
    """Which of `width` tokens each row may go on with, as a boolean array. Rows without a constraint: any."""
    import numpy as np

    size = max(constraint.size for constraint in constraints if constraint)
    masks = np.full((len(constraints), (size + 31) // 32), -1, dtype=np.int32)
    for row, constraint in enumerate(constraints):
        if constraint:
            constraint.allow(masks, row)
    bits = np.unpackbits(masks.view(np.uint8), axis=1, bitorder="little", count=max(width, size))
    return bits[:, :width].view(np.bool_)
