"""Marks what differs between two replies of the same client."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from .elements import tag, text


def written(reply: str, earlier: str = "") -> str:
    """A reply as its model wrote it, after a click. Words that are not in `earlier`, the one before, are marked."""
    content = _new_words(earlier.strip(), reply.strip()) if earlier else text(reply.strip())
    return tag("details", tag("summary", "full reply") + tag("pre", content, dir="auto"), "cv-raw")


def _new_words(earlier: str, reply: str) -> str:
    """The reply, with the words marked that the earlier one does not have in this place."""
    before, now = (re.findall(r"\s+|\S+", said) for said in (earlier, reply))
    parts = []
    for kind, _, _, start, end in SequenceMatcher(None, before, now, autojunk=False).get_opcodes():
        words = text("".join(now[start:end]))
        parts.append(tag("ins", words) if kind in ("insert", "replace") and words.strip() else words)
    return "".join(parts)
