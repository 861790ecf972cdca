"""A guidance service for tests, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from colm_vl import AsyncCoLM, Team
from colm_vl.backends.base import Backend
from colm_vl.backends.scripted import ScriptedBackend
from colm_vl.service.app import create_app
from colm_vl.service.context import Service
from colm_vl.service.keys import KeyRing
from colm_vl.service.queue import Caller, Quota
from colm_vl.service.settings import Settings
from tests.service.running import serving
from tests.teams import FIVE, GUIDANCE

TABLE: Mapping[str, Any] = {"backend": "scripted", "model": "script", "replies": [FIVE]}


class _AnyKey(KeyRing):
    """Whoever sends a key is the caller of that name."""

    def __init__(self, quotas: Mapping[str, Quota]) -> None:
        self._quotas = quotas
        self._found: dict[str, Caller] = {}

    def find(self, key: str) -> Caller | None:
        return self._found.setdefault(key, Caller(key, quota=self._quotas.get(key, Quota()))) if key else None


@dataclass
class Guided:
    """A service with a scripted server, in a thread of the test. `service` is None unless it runs."""

    server: Backend = field(default_factory=lambda: ScriptedBackend([GUIDANCE]))
    settings: Mapping[str, Any] = field(default_factory=dict)
    quotas: Mapping[str, Quota] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    service: Service = field(init=False)

    @contextmanager
    def running(self, host: str = "127.0.0.1") -> Iterator[str]:
        team = Team.from_dict({"clients": [{"name": "own", **TABLE}], "server": TABLE, "policy": self.policy})
        settings = Settings.model_validate(self.settings)
        self.service = Service(team, settings=settings, keys=_AnyKey(self.quotas), backends={"server": self.server})
        with serving(create_app(self.service), host) as url:
            yield url


def one_place(**more: int) -> Mapping[str, Any]:
    """Settings under which the server answers one call at a time."""
    return {"queue": {"places": 1, **more}}


def client(
    url: str, key: str = "COLM_TEST_KEY", clients: Mapping[str, Backend] | None = None, **more: Any
) -> AsyncCoLM:
    """A team with scripted clients whose server is the service at `url`."""
    server = {"backend": "colm", "base_url": url, "api_key_env": key, "retry_delay": 0.001, **more.pop("server", {})}
    members = clients or {"eyes": ScriptedBackend([FIVE])}
    data = {"clients": [{"name": name, **TABLE} for name in members], "server": server, "policy": more}
    return AsyncCoLM(Team.from_dict(data), backends=members)
