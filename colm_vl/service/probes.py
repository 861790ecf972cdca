"""`/health`: the process answers. `/ready`: the members answer."""

from __future__ import annotations

from typing import Literal

from fastapi import FastAPI, Response
from pydantic import BaseModel

from colm_vl.service.access import CurrentService


class HealthBody(BaseModel):
    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    ready: bool
    failing: list[str]
    """The members that do not answer."""


def add_routes(app: FastAPI) -> None:
    app.add_api_route("/health", _health, tags=["operation"], operation_id="health")
    app.add_api_route("/ready", _ready, tags=["operation"], operation_id="ready", responses={503: {"model": Readiness}})


async def _health() -> HealthBody:
    return HealthBody()


async def _ready(service: CurrentService, response: Response) -> Readiness:
    if service.stopping:
        response.status_code = 503
        return Readiness(ready=False, failing=[])
    failing = list(await service.failing())
    if failing:
        response.status_code = 503
    return Readiness(ready=not failing, failing=failing)
