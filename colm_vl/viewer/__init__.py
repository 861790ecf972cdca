"""Questions of a run to look through in a browser: their data, and the script and style that show it.

In each element of the class `viewer`, `viewer.js` shows the JSON of a `script` or of an element of the class `v-data`.
Scores are optional.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("viewer.js")
STYLE = Path(__file__).with_name("viewer.css")


def as_json(data: Mapping[str, Any]) -> str:
    """For a `script` element: without `<`, nothing in it can end the element or begin a comment."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
