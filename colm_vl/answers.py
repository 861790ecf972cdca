"""What an answer is once its wording is set aside: normal forms, sameness, choices, votes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_NUMBER_WORDS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_YES_NO = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_ARTICLE = re.compile(r"^(?:the|a|an)\s+")
_MARKUP = re.compile(r"\*\*|__|`|\\boxed\{([^{}]*)\}|\$")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?")
_LETTER = re.compile(
    r"^\W*(?:(?:the\s+)?(?:correct\s+)?(?:answer|option|choice)\s*(?:is|:)?\s*)?\(?([A-Za-z])\)?(?=[\s.):,*]|$)"
)
_BRACKETED = re.compile(r"\(([A-Za-z])\)")


def strip_markup(text: str) -> str:
    """Drop the emphasis, code and LaTeX marks that models put around an answer."""
    return _MARKUP.sub(lambda match: match.group(1) or "", text).strip()


def normalize(answer: str) -> str:
    """The form in which answers are compared: case, articles, closing punctuation, thousands commas and number words
    do not count. Idempotent."""
    text = unicodedata.normalize("NFKC", strip_markup(answer)).casefold()
    text = _THOUSANDS.sub("", " ".join(text.split()))
    previous = None
    while previous != text:
        previous = text
        text = _ARTICLE.sub("", text.strip(" \t.,;:!?\"'“”‘’()[]"))
    text = _NUMBER_WORDS.get(text, _YES_NO.get(text, text))
    return text.removesuffix(" %").removesuffix("%") if _NUMBER.match(text) else text


def same(one: str, other: str) -> bool:
    """Whether two answers say the same: equal once normalised, or equal as numbers."""
    first, second = normalize(one), normalize(other)
    if first == second:
        return bool(first)
    if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(second):
        return float(first) == float(second)
    return False


def find_choice(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the one choice that `text` names: as a letter (`B`, `(b)`, `B. blue`, `**B**`) or by its words.

    None where it names none, or more than one.
    """
    letters = [chr(ord("A") + index) for index in range(len(choices))]
    plain = strip_markup(text)
    exact = [letter for letter, choice in zip(letters, choices, strict=True) if same(plain, choice)]
    if len(exact) == 1:
        return exact[0]
    bracketed = {letter.upper() for letter in _BRACKETED.findall(plain)} & set(letters)
    if bracketed:
        return bracketed.pop() if len(bracketed) == 1 else None
    leading = _LETTER.match(plain[:200])
    if leading and not _is_article(plain, leading):
        letter = str(leading.group(1)).upper()
        if letter in letters:
            return letter
    words = f" {normalize(plain)} "
    wordings = [normalize(choice) for choice in choices]
    named = [index for index, wording in enumerate(wordings) if wording and f" {wording} " in words]
    return letters[named[0]] if len(named) == 1 else None


def _is_article(text: str, letter: re.Match[str]) -> bool:
    """An `A` that opens a sentence ("A man on a horse") is no choice."""
    return letter.group(1) in "Aa" and re.match(r"\s+\w", text[letter.end(1) :]) is not None


@dataclass(frozen=True, slots=True)
class Ballot:
    """One voter's answer. `weight` breaks ties: the confidence, from 0 to 1, or 0 where it is unknown."""

    voter: str
    answer: str
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Count:
    winner: str
    votes: Mapping[str, tuple[str, ...]]


def vote(ballots: Iterable[Ballot]) -> Count | None:
    """Majority over answers that say the same. A tie goes to the greater summed weight, then to who voted first.

    Empty answers abstain; None where nobody voted. An answer is reported in its first voter's words.
    """
    groups: dict[str, list[Ballot]] = {}
    for ballot in ballots:
        if not normalize(ballot.answer):
            continue
        known = next((answer for answer in groups if same(answer, ballot.answer)), ballot.answer)
        groups.setdefault(known, []).append(ballot)
    if not groups:
        return None
    winner = max(groups, key=lambda answer: (len(groups[answer]), sum(ballot.weight for ballot in groups[answer])))
    return Count(winner, {answer: tuple(ballot.voter for ballot in group) for answer, group in groups.items()})
