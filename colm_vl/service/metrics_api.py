"""`GET /metrics`."""

from __future__ import annotations

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from colm_vl.service.access import Authenticated, CurrentService
from colm_vl.service.errors import ApiError, responses


def add_routes(app: FastAPI) -> None:
    app.add_api_route(
        "/metrics",
        _metrics,
        methods=["GET"],
        tags=["operation"],
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **responses(403)},
    )


async def _metrics(service: CurrentService, caller: Authenticated) -> Response:
    """Metrics in the text format of Prometheus. With keys, only those in the setting `metrics_keys` may read them."""
    if service.keys is not None and caller.name not in service.settings.metrics_keys:
        raise ApiError(
            403,
            "this key may not read the metrics",
            hint="the operator names the keys that may in metrics_keys",
            code="forbidden",
        )
    return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)
