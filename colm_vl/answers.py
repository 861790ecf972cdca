"""Normalize and compare answers, find the choice that a reply names, and count votes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from colm_vl.types import ClientReply, Confidence, Settlement, Verdict

_NUMBER_WORDS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12",
}  # fmt: skip
_YES_NO = {"yes": "yes", "true": "yes", "no": "no", "false": "no"}
_CLOSING = " \t.,;:!?\"'“”‘’()[]"
_OPENING = re.compile(rf"^(?:\.(?!\d)|[{re.escape(_CLOSING.replace('.', ''))}]|(?:the|a|an)\s+)+")
_MARKUP = re.compile(
    r"\*\*|__|`|\$|\\[()\[\]]|\\(?:boxed|text|textbf|textit|textrm|mathbf|mathrm|mathit|mbox)\{([^{}]*)\}"
)
_NESTED = 8
"""How many levels of nested markup are removed; each level is one more pass over the text."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?:\D|$))")
_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?")

_INTRODUCED = (
    r"\W*(?i:(?:the\s+)?(?:(?:correct|final|right|best)\s+)?(?:answer|option|choice)\b\s*(?:is\b|:|=)?\s*"
    r"(?:option\s+)?)?"
)
_ONLY_LABEL = re.compile(_INTRODUCED + r"\(?([A-Za-z])\)?\W*")
_LEADING_LABEL = re.compile(_INTRODUCED + r"\(?([A-Za-z])\)?(?=[\s.):,*]|$)")
_BRACKETED = re.compile(r"(?<!\b[A-Za-z])\(([A-Za-z])\)")
"""A bracket right after a single letter is a function's argument, not a label: P(A), f(E)."""
_ANOTHER_FOLLOWS = re.compile(
    r"\s*(?:,\s*(?:and|or)?|&|and\b|or\b)\s*\(?([A-Z])\)?(?=\s*(?:[.,;:)&]|$|(?:and|or|are|both|have|seem)\b))"
)
_WORD_FOLLOWS = re.compile(r"\s+(?!(?:is|because)\b)\w")
_ASIDE_FOLLOWS = re.compile(r",\s+(?!(?:because|since|the|which)\b)[^,.;:\n]+,\s+[a-z]")
_ABBREVIATED = re.compile(r"\.(?:[A-Za-z]\b|\s[a-z]\.)")
_LISTED = re.compile(r"^[^\w\n]*([A-Za-z])[.):]\s", re.MULTILINE)
_UNKNOWN = re.compile(
    r"(?:(?:sorry|unfortunately),?\s+)?(?:but\s+)?"
    r"(?:(?:i\s+)?(?:(?:really|just)\s+)?(?:do\s+not|don['’]?t)\s+know"
    r"|(?:i\s+(?:am|['’]m)|i['’]m)\s+(?:not\s+(?:sure|certain)|unsure)|not\s+sure"
    r"|(?:i\s+have\s+)?no\s+idea"
    r"|(?:i\s+|it\s+)?(?:can\s*not|can['’]?t|could\s+not)\s+(?:be\s+)?(?:tell|say|see|answer(?:ed)?|determined?)"
    r"|(?:i\s+am|i['’]m)\s+(?:not\s+able|unable)\s+to\s+(?:tell|say|see|answer|determine))"
    r"(?:,?\s+(?:the|this|that|it|your|from|for|to|with|based|on|given|here|answer|question|pictures?|images?|photo|chart"
    r"|certainty|sure|alone|information|provided)){0,8}"
)
_LONGEST_UNKNOWN = 120
_LOOKED_AT = 200
"""How many characters at the start of a reply are searched for a label."""


def strip_markup(text: str) -> str:
    """Remove the Markdown and LaTeX markup that models put around an answer."""
    for _ in range(_NESTED):
        bare = _MARKUP.sub(lambda match: match.group(1) or "", text)
        if bare == text:
            break
        text = bare
    return text.strip()


@lru_cache(maxsize=4096)  # members often give the same answers
def normalize(answer: str) -> str:
    """The form in which answers are compared: without case, leading articles, surrounding punctuation and thousands
    separators, and with number words as digits. Idempotent."""
    text = unicodedata.normalize("NFKC", strip_markup(answer)).casefold()
    text = _THOUSANDS.sub("", " ".join(text.split()))
    text = _OPENING.sub("", text.rstrip(_CLOSING))
    text = _NUMBER_WORDS.get(text, _YES_NO.get(text, text))
    return text.removesuffix(" %").removesuffix("%") if _NUMBER.match(text) else text


def same(one: str, other: str) -> bool:
    """Whether two answers are equal after normalization, or equal as numbers."""
    first, second = normalize(one), normalize(other)
    if first == second:
        return bool(first)
    if _NUMBER.fullmatch(first) and _NUMBER.fullmatch(second):
        return float(first) == float(second)
    return False


def is_abstention(answer: str) -> bool:
    """Whether an answer says nothing else than that the model does not know: "I don't know", "cannot be determined".

    A guess that admits doubt ("not sure, maybe 4") is an answer, and so are single words that benchmarks have as right
    answers ("unanswerable", "unknown").
    """
    return len(answer) <= _LONGEST_UNKNOWN and _UNKNOWN.fullmatch(normalize(answer)) is not None


def abstains(reply: ClientReply | Verdict | Settlement) -> bool:
    """Whether an answer is an abstention. A choice is an answer, whatever its text says."""
    return reply.choice is None and is_abstention(reply.answer)


def is_answer(reply: ClientReply) -> bool:
    """Whether a reply has an answer that is not an abstention."""
    return reply.readable and not abstains(reply)


def same_reply(one: ClientReply, other: ClientReply) -> bool:
    """Whether two clients chose the same letter or, without choices, gave the same answer. Abstentions are the same."""
    if one.choice or other.choice:
        return one.choice == other.choice
    return same(one.answer, other.answer) or (abstains(one) and abstains(other))


def all_agree(replies: Iterable[ClientReply]) -> bool:
    """Whether all replies give the same answer. A reply that is unreadable or an abstention agrees with none."""
    first, *others = replies
    return is_answer(first) and all(same_reply(first, other) for other in others)


def find_choice(text: str, choices: Sequence[str]) -> str | None:
    """The letter of the choice that `text` names, by its label (`B`, `(b)`, `B. blue`, `**B**`) or else by its text.

    A single letter is read as a label even if the choices themselves are letters. The exception is a lower-case letter
    that equals the text of a choice. None if `text` names no choice, or more than one.
    """
    plain = strip_markup(text)
    letters = choice_letters(len(choices))
    only = _ONLY_LABEL.fullmatch(plain) if len(plain) <= _LOOKED_AT else None
    if only and only.group(1).upper() in letters and not (only.group(1).islower() and only.group(1) in choices):
        return only.group(1).upper()
    exact = [letter for letter, choice in zip(letters, choices, strict=True) if same(plain, choice)]
    if len(exact) == 1:
        return exact[0]
    labels = _labels(plain, letters)
    if labels:
        return labels.pop() if len(labels) == 1 else None
    words = f" {normalize(plain)} "
    wordings = [normalize(choice) for choice in choices]
    named = [index for index, wording in enumerate(wordings) if wording and f" {wording} " in words]
    return letters[named[0]] if len(named) == 1 else None


def choice_letters(count: int) -> tuple[str, ...]:
    """The labels of `count` choices: A, B, …"""
    return tuple(chr(ord("A") + index) for index in range(count))


def correct_choice(answer: object, choices: Sequence[str]) -> int | None:
    """The place of the correct choice, from 0. `answer` is its letter, its text or its index from 0; None if it is none
    of these. A string that is the text of one choice and the index of another is the text; a number is the index."""
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    text = str(answer).strip()
    letters = choice_letters(len(choices))
    if text.upper() in letters:
        return letters.index(text.upper())
    indexes = [str(index) for index in range(len(choices))]
    by_index = indexes.index(text) if text in indexes else None
    by_text = choices.index(text) if text in choices else None
    found = (by_index, by_text) if isinstance(answer, int) else (by_text, by_index)
    return next((place for place in found if place is not None), None)


def _labels(plain: str, letters: Sequence[str]) -> set[str]:
    """The labels in a reply: the one at its start and all in brackets, or only the one at its start if a full stop or a
    line break follows it. A label at the start of a list of labels does not count; in "B and C", both do."""
    bracketed = _among(letters, _BRACKETED, plain)
    leading = _LEADING_LABEL.match(plain[:_LOOKED_AT])
    if leading is None or leading.group(1).upper() not in letters or _is_word(plain, leading):
        return bracketed
    if len(_among(letters, _LISTED, plain)) > 1:
        return bracketed
    letter = leading.group(1).upper()
    rest = plain[leading.end() :]
    if (another := _ANOTHER_FOLLOWS.match(rest)) and another.group(1) in letters:
        return {letter, another.group(1)} | bracketed
    bare = plain[leading.start(1) - 1 : leading.start(1)] != "("
    stopped = not rest or rest[0] in ".\n" or (bare and (rest[0] == ":" or plain[leading.end() - 1] == ")"))
    return {letter} if stopped else {letter} | bracketed


def _among(letters: Sequence[str], pattern: re.Pattern[str], plain: str) -> set[str]:
    return {letter.upper() for letter in pattern.findall(plain)} & set(letters)


def _is_word(plain: str, leading: re.Match[str]) -> bool:
    """Whether the letter is a word or part of an abbreviation: "A man on a horse", "I cannot tell",
    "I, for one, cannot tell", "e.g. a horse"."""
    rest = plain[leading.end(1) :]
    article = leading.group(1) in "AaIi" and _WORD_FOLLOWS.match(rest) is not None
    pronoun = leading.group(1) in "Ii" and _ASIDE_FOLLOWS.match(rest) is not None
    return article or pronoun or _ABBREVIATED.match(rest) is not None


def comparable(confidences: Iterable[Confidence]) -> bool:
    """Whether all confidences are known and come from the same source."""
    return len(sources := {confidence.source for confidence in confidences}) == 1 and "unknown" not in sources


@dataclass(frozen=True, slots=True)
class Ballot:
    """One voter's answer. Confidences break ties if they can be compared."""

    voter: str
    answer: str
    confidence: Confidence = Confidence()


@dataclass(frozen=True, slots=True)
class Count:
    winner: str
    votes: Mapping[str, tuple[str, ...]]


def vote(ballots: Iterable[Ballot]) -> Count | None:
    """Majority vote; equal answers are counted together and reported in the wording of the first.

    A tie goes to the answer with the greater summed confidence if all confidences in the tie have the same source (a
    measured probability is not comparable with a stated one), and otherwise to the first. Empty answers are ignored.
    Abstentions count only if there is nothing else, and then as one answer, whatever their wording. None if there is no
    answer.
    """
    said = [ballot for ballot in ballots if normalize(ballot.answer)]
    given = [ballot for ballot in said if not is_abstention(ballot.answer)]
    if said and not given:
        return Count(said[0].answer, {said[0].answer: tuple(ballot.voter for ballot in said)})
    groups: dict[str, list[Ballot]] = {}
    for ballot in given:
        known = next((answer for answer in groups if same(answer, ballot.answer)), ballot.answer)
        groups.setdefault(known, []).append(ballot)
    if not groups:
        return None
    most = max(len(group) for group in groups.values())
    tied = [answer for answer, group in groups.items() if len(group) == most]
    if comparable(ballot.confidence for answer in tied for ballot in groups[answer]):
        winner = max(tied, key=lambda answer: sum(ballot.confidence.value or 0.0 for ballot in groups[answer]))
    else:
        winner = tied[0]
    return Count(winner, {answer: tuple(ballot.voter for ballot in group) for answer, group in groups.items()})
