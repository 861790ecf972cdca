"""Marks, word by word, what differs between two replies of the same client."""

from __future__ import annotations

import re
from collections import Counter
from difflib import SequenceMatcher
from functools import lru_cache

from .elements import CLAMPED, SPARE, tag, text
from .markup import is_plain, rich

_ALIKE = 0.4
"""Texts that share less than this part of their words are shown one below the other, unmarked."""
_MOST = 4000
"""Characters of a text whose words are compared."""
_MOST_PAIRS = 20_000
"""Pairs of equal words in two texts that are compared. A model that repeats itself makes millions, for which
`SequenceMatcher` takes minutes."""


def written(reply: str, earlier: str = "") -> str:
    """A reply as its model wrote it, after a click. What differs from `earlier`, the reply before it, is marked."""
    earlier, reply = earlier.strip(), reply.strip()
    if not earlier:
        return _folded("full reply", _verbatim(text(reply)))
    if earlier.split() == reply.split():
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


@lru_cache(maxsize=128)  # a question that is being answered is drawn again and again
def differing(earlier: str, now: str) -> str | None:
    """The words of both texts as HTML, those that were removed and added marked. None if too few are the same, or if
    the comparison would take long."""
    if max(len(earlier), len(now)) > _MOST:
        return None
    before, after = (re.findall(r"\S+\s*", said.strip()) for said in (earlier, now))
    old, new = ([piece.rstrip() for piece in pieces] for pieces in (before, after))
    counts = Counter(old)
    if sum(counts[word] for word in new) > _MOST_PAIRS:
        return None
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    same = sum(end - start for kind, start, end, _, _ in blocks if kind == "equal")
    if 2 * same < _ALIKE * (len(old) + len(new)):
        return None
    parts = [""]
    for kind, start, end, first, last in blocks:
        kept, removed = "".join(after[first:last]), "".join(before[start:end])
        if kind == "equal":
            parts.append(text(kept))
            continue
        apart = " " if removed and parts[-1] and not parts[-1][-1].isspace() else ""
        parts += [apart, _removed(removed), _added(kept)]
    return "".join(parts)


def _removed(said: str) -> str:
    return _told("del", "removed: ", said.strip()) + " " if said else ""


def _added(said: str) -> str:
    words = said.rstrip()
    return _told("ins", "added: ", words) + text(said[len(words) :]) if words else ""


def _told(name: str, told: str, words: str) -> str:
    """Screen readers do not mention `ins` and `del`, so it is also said in words that are not visible."""
    return tag(name, tag("span", told, "cv-unseen") + text(words))


def _folded(label: str, content: str) -> str:
    return tag("details", tag("summary", label) + content, "cv-raw")


def _verbatim(content: str) -> str:
    return tag("pre", content, dir="auto")
