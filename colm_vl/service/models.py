"""`GET /v1/models`."""

from __future__ import annotations

from typing import Literal

from fastapi import FastAPI
from pydantic import BaseModel, Field

from colm_vl.service.access import Authenticated, CurrentService
from colm_vl.service.context import Service
from colm_vl.service.errors import ApiError, responses


class ModelInfo(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix time at which the service was started")
    owned_by: str = "colm-vl"
    description: str


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelInfo]


def add_routes(app: FastAPI) -> None:
    app.add_api_route("/v1/models", _models, tags=["OpenAI"], operation_id="list_models", responses=responses())
    app.add_api_route(
        "/v1/models/{model:path}", _model, tags=["OpenAI"], operation_id="get_model", responses=responses(404)
    )


def unknown(model: str) -> ApiError:
    return ApiError(
        404, f"no model is called {model!a}", hint="GET /v1/models lists them", code="model_not_found", param="model"
    )


async def _models(service: CurrentService, caller: Authenticated) -> ModelList:
    return ModelList(data=[_info(service, name) for name in service.models])


async def _model(model: str, service: CurrentService, caller: Authenticated) -> ModelInfo:
    if model not in service.models:
        raise unknown(model)
    return _info(service, model)


def _info(service: Service, name: str) -> ModelInfo:
    strategy = service.models[name].strategy
    return ModelInfo(id=name, created=service.started, description=strategy.summary)
