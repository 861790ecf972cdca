"""`POST /mcp`: the tool `ask` over the Streamable HTTP transport of the Model Context Protocol, without sessions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Any

from fastapi import FastAPI
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from colm_vl.errors import InputError, NoAnswer
from colm_vl.events import Event
from colm_vl.mcp.arguments import Arguments, Picture, Turn, data_uri
from colm_vl.mcp.tool import Asker, tool_server
from colm_vl.service import answering
from colm_vl.service.context import Service
from colm_vl.service.conversation import Address, Said, read_query
from colm_vl.service.errors import ApiError, as_api_error

PATH = "/mcp"
_IDLE = "mcp_idle"
_PATIENCE = 10.0
"""Seconds in which a cancelled question ends."""
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def add_route(app: FastAPI, service: Service) -> StreamableHTTPSessionManager:
    """Add the route. It works while the manager's `run` does."""
    manager = StreamableHTTPSessionManager(
        tool_server(ServiceAsker(service)),
        stateless=True,
        security_settings=_security(service),
        max_request_body_size=service.settings.limits.body_bytes,
    )
    endpoint = _Endpoint(manager)
    endpoint.route = Route(PATH, endpoint, include_in_schema=False)
    app.router.routes.append(endpoint.route)
    return manager


class _Endpoint:
    def __init__(self, manager: StreamableHTTPSessionManager) -> None:
        self._manager = manager
        self.route: Route | None = None
        """For the account of requests."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self.route
        if scope["method"] != "POST":  # there is nothing to tell beside the replies to requests
            refusal = ApiError(405, "only POST is supported", headers={"Allow": "POST"})
            return await refusal.response()(scope, receive, send)
        idle = scope["state"][_IDLE] = asyncio.Event()
        idle.set()
        try:
            return await self._manager.handle_request(scope, receive, send)
        finally:
            # A question whose client has left is being cancelled. What it used belongs to this request's account.
            with suppress(TimeoutError):
                await asyncio.wait_for(idle.wait(), _PATIENCE)


def _security(service: Service) -> TransportSecuritySettings:
    """Where no key is needed, web pages of other sites are refused, whatever name they have given to this machine."""
    hosts = [form for host in _LOOPBACK for form in (host, f"{host}:*")]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=service.keys is None,
        allowed_hosts=hosts,
        allowed_origins=[*service.settings.cors_origins, *(f"http://{host}" for host in hosts)],
    )


class ServiceAsker(Asker):
    """Asks in a caller's name, within the limits of the service. The team's own strategy answers."""

    paths = False

    def __init__(self, service: Service) -> None:
        self.team = service.team
        self._service = service

    @override
    async def follow(self, asked: Arguments, request: Any) -> AsyncGenerator[Event, None]:
        assert isinstance(request, Request)
        service, caller = self._service, request.state.caller
        idle: asyncio.Event = request.scope["state"][_IDLE]
        idle.clear()
        try:
            await service.places.admit(caller)
            query = await read_query(_messages(asked), asked.choices, service.settings, service.decoding)
            choice = next(iter(service.models.values()))
            async with aclosing(answering.follow(service, caller, query, choice)) as events:
                async for event in events:
                    yield event
        finally:
            idle.set()

    @override
    def tell(self, error: Exception) -> str:
        if isinstance(error, NoAnswer):  # it has names and kinds only
            return str(error)
        told = as_api_error(error).body.error
        return f"{told.message} ({told.hint})" if told.hint else told.message


def _messages(asked: Arguments) -> list[Said]:
    return [*(_said(turn, turn.text, turn.role) for turn in asked.history), _said(asked, asked.question, "user")]


def _said(turn: Turn | Arguments, text: str, role: Any) -> Said:
    return Said(role, (*(Address(_address(picture)) for picture in turn.pictures), text))


def _address(picture: Picture) -> str:
    """Web addresses are left to the settings of the service. Paths would be those of its machine."""
    address = data_uri(picture) or str(picture)
    if not address[:8].lower().startswith(("data:", "http://", "https://")):
        raise InputError("a picture is neither a data URI nor base64", hint="a service opens no paths: send the bytes")
    return address
