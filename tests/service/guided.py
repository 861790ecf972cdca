"""A guidance service for tests, and clients of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse

from colm_vl import AsyncCoLM, Team
from colm_vl.backends.base import Backend
from colm_vl.backends.scripted import ScriptedBackend
from colm_vl.errors import BackendError, ColmError, RateLimited
from colm_vl.service.guidance import GuidanceService
from colm_vl.service.guidance_api import router
from colm_vl.service.pictures import MissingPicture, PictureStore
from colm_vl.service.queue import Caller, FairQueue
from colm_vl.service.queued import QueuedBackend
from tests.service.running import serving
from tests.teams import FIVE, GUIDANCE

TABLE: Mapping[str, Any] = {"backend": "scripted", "model": "script", "replies": [FIVE]}


@dataclass
class Guided:
    """A service with a scripted server. Whoever sends a key is the caller of that name."""

    server: Backend = field(default_factory=lambda: ScriptedBackend([GUIDANCE]))
    queue: FairQueue = field(default_factory=lambda: FairQueue(4))
    pictures: PictureStore = field(default_factory=PictureStore)
    callers: Mapping[str, Caller] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def running(self, host: str = "127.0.0.1") -> Iterator[str]:
        team = Team.from_dict({"clients": [{"name": "own", **TABLE}], "server": TABLE, "policy": self.policy})
        queued = QueuedBackend(self.server, self.queue, times=False)
        service = GuidanceService(team, queued, self.queue, self.pictures)
        app = FastAPI()
        app.include_router(router(service, self._caller))
        app.add_exception_handler(ColmError, _failed)
        with serving(app, host) as url:
            yield url

    async def _caller(self, authorization: str = Header("")) -> Caller:
        name = authorization.removeprefix("Bearer ")
        return self.callers.get(name) or Caller(name)


async def _failed(_: Request, error: Exception) -> JSONResponse:
    status = {"rate_limited": 429, "not_admitted": 429, "unavailable": 503, "timed_out": 504, "bad_reply": 502}
    code = getattr(error, "status", None) if isinstance(error, BackendError) else None
    missing = isinstance(error, MissingPicture)
    assert isinstance(error, ColmError)
    kind = "rate_limited" if isinstance(error, RateLimited) else error.kind
    wait = error.retry_after if isinstance(error, RateLimited) else None
    body = {"message": str(error), "type": kind, "hint": error.hint, "code": error.kind if missing else None}
    headers = {} if wait is None else {"Retry-After": f"{wait:.0f}"}
    return JSONResponse({"error": body}, code or (409 if missing else status.get(kind, 400)), headers)


def client(
    url: str, key: str = "COLM_TEST_KEY", clients: Mapping[str, Backend] | None = None, **more: Any
) -> AsyncCoLM:
    """A team with scripted clients whose server is the service at `url`."""
    server = {"backend": "colm", "base_url": url, "api_key_env": key, "retry_delay": 0.001, **more.pop("server", {})}
    members = clients or {"eyes": ScriptedBackend([FIVE])}
    data = {"clients": [{"name": name, **TABLE} for name in members], "server": server, "policy": more}
    return AsyncCoLM(Team.from_dict(data), backends=members)
