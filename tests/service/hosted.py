"""A service with scripted members: in this process, or as a process of its own on loopback."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from colm_vl import Team
from colm_vl.backends.base import Backend
from colm_vl.service.app import create_app
from colm_vl.service.context import Service
from colm_vl.service.keys import KeyRing
from colm_vl.service.ledger import Ledger
from colm_vl.service.settings import Settings
from colm_vl.service.telemetry import Telemetry
from tests.teams import FIVE, FOUR, GUIDANCE

ROOT = Path(__file__).parents[2]


def team(*, server: Sequence[Any] | None = (GUIDANCE,), **policy: Any) -> Team:
    """Two clients that disagree until the server guides them."""

    def member(name: str, *replies: Any) -> dict[str, Any]:
        return {"name": name, "specialty": f"{name} and such", "backend": "scripted", "model": name, "replies": replies}

    changed = {"when": "count the dots in the corner", "text": FIVE}
    data: dict[str, Any] = {"clients": [member("dots", FIVE), member("charts", changed, FOUR)], "policy": policy}
    if server is not None:
        data["server"] = {"backend": "scripted", "model": "big", "replies": list(server)}
    return Team.from_dict(data)


def service(
    made: Team | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    keys: Path | None = None,
    backends: Mapping[str, Backend] | None = None,
    ledger: Ledger | None = None,
    telemetry: Telemetry | None = None,
) -> Service:
    ring = KeyRing(keys) if keys else None
    chosen = Settings.model_validate(settings or {})
    return Service(made or team(), settings=chosen, keys=ring, backends=backends, ledger=ledger, telemetry=telemetry)


@asynccontextmanager
async def client(made: Service | None = None, **headers: str) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client of a service in this process."""
    app = create_app(made or service())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers) as http,
    ):
        yield http


@dataclass(frozen=True, slots=True)
class Running:
    url: str
    process: subprocess.Popen[str]


@contextmanager
def process(*arguments: str, log: IO[str] | None = None, **environment: str) -> Generator[Running, None, None]:
    """`colm-vl serve` with these arguments on a free port. It is killed at the end if it still runs.

    Its standard error goes to `log`, or to a pipe, which holds about 300 requests before the service has to wait.
    """
    command = [sys.executable, "-m", "colm_vl.cli", "serve", "--port", "0", *arguments]
    paths = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=log or subprocess.PIPE, text=True, env=os.environ | paths | environment
    ) as running:
        try:
            yield Running(read_address(running), running)
        finally:
            running.kill()


def read_address(running: subprocess.Popen[str]) -> str:
    """Wait for the address that the service prints when it has started."""
    assert running.stdout is not None
    ready, _, _ = select.select([running.stdout], [], [], 120)
    line = running.stdout.readline() if ready else ""
    if not line.startswith("colm-vl: http"):
        running.kill()
        raise AssertionError(f"the service did not start: {running.stderr.read() if running.stderr else ''}")
    return line.split()[1].removesuffix("/v1")
