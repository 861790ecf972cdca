"""Probabilities of the choices' letters at the position of the letter that was drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from colm_vl.backends._common import letter_in, summed
from colm_vl.types import MAX_CHOICES

_ALPHABET = tuple(chr(ord("A") + index) for index in range(MAX_CHOICES))


class LetterTokens:
    """The tokens of a vocabulary that are a letter, alone or surrounded by punctuation."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def among(self, token: int, letters: Sequence[str], logprobs: Any) -> Mapping[str, float] | None:
        """The log-probability of each of `letters`, from those of the whole vocabulary. None if `token` is not a
        letter."""
        if self._letter_of.get(token) not in letters:
            return None
        ids = [(letter, each) for letter in letters for each in self._tokens_of[letter]]
        found = logprobs[[each for _, each in ids]].tolist()
        return summed(zip((letter for letter, _ in ids), found, strict=True))

    @cached_property
    def _letter_of(self) -> Mapping[int, str]:
        vocabulary: Mapping[str, int] = self._tokenizer.get_vocab()
        found = ((number, letter_in(token, _ALPHABET)) for token, number in vocabulary.items() if len(token) < 10)
        return {number: letter for number, letter in found if letter}

    @cached_property
    def _tokens_of(self) -> Mapping[str, Sequence[int]]:
        found: defaultdict[str, list[int]] = defaultdict(list)
        for number, letter in sorted(self._letter_of.items()):
            found[letter].append(number)
        return found
