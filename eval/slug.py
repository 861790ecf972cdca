"""Names of members, strategies and variants made safe for file names and URLs."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 60


def slug(name: str) -> str:
    """Lower-case letters, digits, `-` and `_`. If that changes the name, a digest keeps it apart from similar ones."""
    safe = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-")[:_LONGEST]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:6]}".lstrip("-")
