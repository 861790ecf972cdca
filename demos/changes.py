"""Marks, word by word, what differs between two replies of the same client."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from .elements import CLAMPED, SPARE, tag, text
from .markup import is_plain, rich

_ALIKE = 0.4
"""Texts that share less than this part of their words are shown one below the other, unmarked."""
_MOST = 4000
"""Characters of a text whose words are compared: the time grows with the square of the number of words."""


def written(reply: str, earlier: str = "") -> str:
    """A reply as its model wrote it, after a click. What differs from `earlier`, the reply before it, is marked."""
    earlier, reply = earlier.strip(), reply.strip()
    if not earlier:
        return _folded("full reply", _verbatim(text(reply)))
    if earlier == reply:
        return _folded("full reply, as before", _verbatim(text(reply)))
    marked = differing(earlier, reply)
    if marked is None:
        both = tag("p", "Before:") + _verbatim(text(earlier)) + tag("p", "Now:") + _verbatim(text(reply))
        return _folded("full reply, and the one before", both)
    return _folded("full reply, with changes marked", _verbatim(marked))


def changed(earlier: str, now: str) -> str:
    """The description in a reply. If it is short and has no markup, what differs from the earlier one is marked."""
    short = max(len(earlier), len(now)) <= CLAMPED + SPARE
    comparable = earlier and earlier != now and short and is_plain(earlier) and is_plain(now)
    return (differing(earlier, now) if comparable else None) or rich(now)


def differing(earlier: str, now: str) -> str | None:
    """The words of both texts as HTML, those that were removed and added marked. None if too few are the same, or if a
    text is too long."""
    if max(len(earlier), len(now)) > _MOST:
        return None
    before, after = (re.findall(r"\s+|\S+", said) for said in (earlier, now))
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    blocks = matcher.get_opcodes()
    same = sum(_words(before[start:end]) for kind, start, end, _, _ in blocks if kind == "equal")
    if 2 * same < _ALIKE * (_words(before) + _words(after)):
        return None
    parts, removed, added = [], "", ""
    for kind, start, end, first, last in blocks:
        old, new = "".join(before[start:end]), "".join(after[first:last])
        if kind != "equal" or (
            new.isspace() and (removed or added)
        ):  # words that follow each other are marked together
            removed, added = removed + old, added + new
            continue
        parts += [_removed(removed), _added(added), text(new)]
        removed, added = "", ""
    return "".join([*parts, _removed(removed), _added(added)])


def _words(pieces: list[str]) -> int:
    return sum(not piece.isspace() for piece in pieces)


def _removed(said: str) -> str:
    return _told("del", "removed: ", said.strip()) + " " if said.strip() else ""


def _added(said: str) -> str:
    if not said.strip():
        return text(said)
    start, words, end = re.fullmatch(r"(\s*)(.*?)(\s*)", said, re.DOTALL).groups()  # type: ignore[union-attr]
    return text(start) + _told("ins", "added: ", words) + text(end)


def _told(name: str, told: str, words: str) -> str:
    """Screen readers do not mention `ins` and `del`, so it is also said in words that are not visible."""
    return tag(name, tag("span", told, "cv-unseen") + text(words))


def _folded(label: str, content: str) -> str:
    return tag("details", tag("summary", label) + content, "cv-raw")


def _verbatim(content: str) -> str:
    return tag("pre", content, dir="auto")
