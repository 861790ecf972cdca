"""The application: one function per part adds its routes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from colm_vl import __version__
from colm_vl.extras import require
from colm_vl.service import chat, errors, guidance_api, metrics_api, models, probes, responses
from colm_vl.service.access import OPEN_PATHS, AccessMiddleware
from colm_vl.service.accounting import AccountingMiddleware
from colm_vl.service.context import Service

if TYPE_CHECKING:
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

_PARTS = (
    models.add_routes,
    chat.add_routes,
    responses.add_routes,
    guidance_api.add_routes,
    metrics_api.add_routes,
    probes.add_routes,
)


def create_app(service: Service) -> FastAPI:
    """The ASGI application. It closes the service when it ends."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None, None]:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(service.aclose)
            if manager is not None:
                await stack.enter_async_context(manager.run())
            yield

    # The interactive pages would load scripts from another host.
    app = FastAPI(
        title="colm-vl", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.state.service = service
    errors.add_handlers(app)
    for add_routes in _PARTS:
        add_routes(app)
    manager = _add_mcp(app, service) if service.settings.mcp else None
    errors.describe(app)
    app.add_middleware(AccessMiddleware, service=service)
    app.add_middleware(AccountingMiddleware, sinks=service.sinks, ignored=OPEN_PATHS)
    if service.settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.cors_origins,
            allow_methods=["GET", "HEAD", "POST", "PUT"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def _add_mcp(app: FastAPI, service: Service) -> StreamableHTTPSessionManager:
    require("mcp", "mcp")
    from colm_vl.service import mcp_api

    return mcp_api.add_route(app, service)
