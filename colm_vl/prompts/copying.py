"""Find sentences that a reply copies from its own prompt, and parts that it repeats again and again.

Small models copy the form that they should fill in, with high probabilities. Replies are compared with the texts of
the profile only, because a good reply may repeat the question, its choices or a draft. Of the profile's examples, only
long phrases count as copied, because a good reply shares short ones with an example.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import eq

from colm_vl.prompts.profile import Profile
from colm_vl.types import Flaw

_RUN, _LONG_RUN, _LONG = 5, 4, 8
"""This many consecutive words of an instruction count as copied: 5, or 4 in a sentence of at least 8 words."""
_SHARE = 0.5
"""A sentence counts as copied if at least this share of its words is."""
_MIN_CLAUSE = 3
_MIN_REPEATS, _MIN_REPEATED_WORDS, _MAX_PERIOD = 4, 8, 60
_SEARCHED_WORDS, _MAX_LOOPS = 4_000, 8
_MAX_COMPARED = 50_000
"""Characters. Longer replies are not compared."""

_LABEL = re.compile(r"^[\s>#*_\-•\d.)]*(?:[A-Za-z]+ )?[A-Za-z]+[*_`]*\s*[:：=][*_`]*")
_SENTENCE = re.compile(r"[^.!?]+(?:[.!?]+(?=\s|$)|[.!?]|$)\s*")
_WORD = re.compile(r"\b(?![0-9a-f]{6}\b)\w+")
"""Boundary marks do not count as words, because each prompt has its own."""
_NON_SPACE = re.compile(r"\S+")
_QUOTE = re.compile(r"\[begin ([0-9a-f]{6})\].*?(?:\[end \1\]|\Z)", re.DOTALL)
_MARK = re.compile(r"\[(?:begin|end) [0-9a-f]{1,6}(?:\]|$)")


@dataclass(frozen=True, slots=True)
class OwnWords:
    """A reply without its copied and repeated parts, and the kinds of parts that were removed."""

    text: str
    flaws: tuple[Flaw, ...] = ()


def own_words(text: str, profile: Profile, choices: Sequence[str] = (), *, quotes: bool = True) -> OwnWords:
    """Remove copied sentences and repetitions from a reply. A sentence that equals one of the choices, with or without
    its letter, is never removed. Without `quotes`, text between boundaries is removed as well."""
    if len(text) > _MAX_COMPARED:
        return OwnWords(text)
    kept = cut_repetition(text)
    flaws: tuple[Flaw, ...] = ("repeated",) if kept != text else ()
    if not quotes:
        kept = _QUOTE.sub(r"[begin \1]", kept)
    told = _told(profile)
    if not (_MARK.search(kept) or told.shares_phrase(_words(kept))):
        return OwnWords(kept, flaws)
    honest = tuple(_words(choice) for choice in choices)
    lines = kept.splitlines(keepends=True)
    own = [_own_part(_MARK.sub("", line), told, honest) for line in lines]
    if own == lines:
        return OwnWords(kept, flaws)
    # If one line is copied, other lines that are in the prompt word for word, such as an example's answer, are, too.
    own = ["" if _words(line) in told.lines else line for line in own]
    return OwnWords("".join(own), ("copied", *flaws))


def cut_repetition(text: str) -> str:
    """Remove repetitions of a word, a phrase or several lines, except for the first."""
    for _ in range(_MAX_LOOPS):
        found = list(_NON_SPACE.finditer(text))[-_SEARCHED_WORDS:]
        loop = _find_loop([match[0].casefold() for match in found])
        if loop is None:
            break
        text = text[: found[loop.start - 1].end()] + text[found[loop.stop - 1].end() :]
    return text


def _find_loop(words: Sequence[str]) -> range | None:
    """The repetitions after the first."""
    repeated = len(words) - len(set(words))
    for period in range(1, min(_MAX_PERIOD, repeated // (_MIN_REPEATS - 1)) + 1):
        needed = max(_MIN_REPEATS * period, _MIN_REPEATED_WORDS) - period
        if sum(map(eq, words, words[period:])) < needed:
            continue  # much faster than the search below, which few replies need
        start = stop = period
        while stop <= len(words):
            if stop < len(words) and words[stop] == words[stop - period]:
                stop += 1
                continue
            if stop - start >= needed:
                is_cut_off = stop == len(words) - 1 and words[stop - period].startswith(words[stop])
                return range(start, stop + is_cut_off)
            start = stop = stop + 1
    return None


@dataclass(frozen=True, slots=True)
class _Told:
    """The words of a profile's instructions: phrases of three, longer runs, whole clauses, and whole lines with their
    labels."""

    phrases: frozenset[tuple[str, ...]]
    runs: frozenset[tuple[str, ...]]
    clauses: frozenset[tuple[str, ...]]
    lines: frozenset[tuple[str, ...]]

    def shares_phrase(self, words: tuple[str, ...]) -> bool:
        """False for most replies; nothing can be copied in these. Much faster than looking for copied sentences."""
        return not self.phrases.isdisjoint(zip(words, words[1:], words[2:], strict=False))


@lru_cache(maxsize=32)
def _told(profile: Profile) -> _Told:
    phrases: set[tuple[str, ...]] = set()
    runs: set[tuple[str, ...]] = set()
    clauses: set[tuple[str, ...]] = set()
    lines: set[tuple[str, ...]] = set()
    for line in _lines((*profile.instructions, *profile.examples)):
        words = _words(line)
        lines.add(words)
        phrases.update(zip(words, words[1:], words[2:], strict=False))
        said = _LABEL.sub("", line)
        for clause in re.split(r"[,;.!?]", said):
            if len(words := _words(clause)) >= _MIN_CLAUSE:
                clauses.add(words)
        for sentence in re.split(r"[.!?]", said):
            runs.update(_runs(_words(sentence), _RUN))
    for line in _lines(profile.instructions):
        for sentence in re.split(r"[.!?]", line):
            for spoken in (sentence, _LABEL.sub("", sentence)):
                words = _words(spoken)
                runs.update(_runs(words, _RUN), _runs(words, _LONG_RUN))
    lines.discard(())
    return _Told(frozenset(phrases), frozenset(runs), frozenset(clauses), frozenset(lines))


def _runs(words: tuple[str, ...], length: int) -> Iterator[tuple[str, ...]]:
    return (words[at : at + length] for at in range(len(words) - length + 1))


def _lines(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        yield from re.split(r"\n|\{\w+\}", text.replace("{boundary}", ""))


def _own_part(line: str, told: _Told, honest: Sequence[tuple[str, ...]]) -> str:
    """Remove the copied sentences of a line, and its label if no other sentences remain."""
    label = match[0] if (match := _LABEL.match(line)) else ""
    said = line[len(label) :]
    kept = "".join(sentence for sentence in _sentences(said) if not _is_copied(_words(sentence), told, honest))
    if kept == said:
        is_copied = label and _words(said) not in honest and _is_copied(_words(line), told, honest)
        return "" if is_copied else line
    return f"{label}{kept}" if _words(kept) else ""


def _sentences(text: str) -> Iterator[str]:
    end = 0
    for match in _SENTENCE.finditer(text):
        yield text[end : match.end()]
        end = match.end()
    if text[end:]:
        yield text[end:]


def _is_copied(words: tuple[str, ...], told: _Told, honest: Sequence[tuple[str, ...]]) -> bool:
    if words in honest or (words and len(words[0]) == 1 and words[1:] in honest):
        return False
    if words in told.clauses:
        return True
    covered: set[int] = set()
    for run in (_RUN,) if len(words) < _LONG else (_RUN, _LONG_RUN):
        for at in range(len(words) - run + 1):
            if words[at : at + run] in told.runs:
                covered.update(range(at, at + run))
    return bool(covered) and len(covered) >= _SHARE * len(words)


def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.casefold()))
