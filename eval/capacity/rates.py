"""Rates as they are written on the command line, such as 5/s or 200/min."""

from __future__ import annotations

import math
import re

from colm_vl.errors import InputError

_SECONDS = {"s": 1, "min": 60, "h": 3600, "day": 86_400}


def read_rate(text: str) -> float:
    """Per second. Raises `InputError` if it is not a rate above 0."""
    found = re.fullmatch(r"\s*([^/\s]+)\s*/\s*(\w+)\s*", text)
    try:
        count = float(found[1].replace("_", "")) if found and found[2] in _SECONDS else math.nan
    except ValueError:
        count = math.nan
    if found is None or not 0 < count < math.inf:
        raise InputError(
            f"--arrivals {text!r}: expected a rate above 0", hint=f"such as 5/s; per {', '.join(_SECONDS)}"
        )
    return count / _SECONDS[found[2]]
