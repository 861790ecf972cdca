"""A real server process with a scripted team, for clients as they are published."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from colm_vl.service import keys
from colm_vl.service.keys import QuotaTable
from tests.service import hosted

ENVIRONMENT = "COLM_VL_CLIENTS"
"""Names a virtual environment with the packages of `clients-requirements.txt` (`make test-clients`)."""

TEAM = r"""
[[clients]]
name = "dots"
backend = "scripted"
model = "dots"
max_images = 1
replies = [
    { when = "JSON schema below", text = '{"count": 5}' },
    "Caption: five dots\nAnswer: 5\nConfidence: 90",
]

[[clients]]
name = "charts"
backend = "scripted"
model = "charts"
replies = [
    { when = "JSON schema below", text = '{"count": 5}' },
    { when = "count the dots", text = "Caption: five dots\nAnswer: 5\nConfidence: 80" },
    "Caption: four dots\nAnswer: 4\nConfidence: 60",
]

[server]
backend = "scripted"
model = "big"
replies = ["Evidence: there are five dots\nDisagreement: 4 or 5\nCheck: count the dots in the corner"]
"""


@contextmanager
def team_with_key(folder: Path) -> Iterator[dict[str, str]]:
    """The environment for a client: the base URL of a service, and a key for it."""
    (folder / "team.toml").write_text(TEAM)
    key = keys.add(folder / "keys.toml", "client", 1.0, QuotaTable())
    options = ("--team", str(folder / "team.toml"), "--keys", str(folder / "keys.toml"))
    with (folder / "log.txt").open("w") as log, hosted.process(*options, log=log) as served:
        yield {"OPENAI_BASE_URL": f"{served.url}/v1", "OPENAI_API_KEY": key}


def clients() -> Path | None:
    """The folder of the clients' commands, if there is one."""
    named = os.environ.get(ENVIRONMENT)
    folder = Path(named, "bin") if named else None
    return folder.resolve() if folder and (folder / "python").exists() else None
