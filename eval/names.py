"""Names of members, strategies and variants as parts of file names and addresses."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 60


def slug(name: str) -> str:
    """Lower-case letters, digits, `-` and `_`; where that changes a name, a digest keeps it apart from others."""
    safe = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:_LONGEST]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")
