"""Who asks, and how much: a middleware that runs before a body is read, and the callers' dependency of routes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colm_vl.service.context import Service
from colm_vl.service.errors import ApiError
from colm_vl.service.keys import ANONYMOUS
from colm_vl.service.queue import Caller

OPEN_PATHS = frozenset({"/health", "/ready", "/openapi.json"})
"""Answered without a key. All others need one, if there are keys."""


class AccessMiddleware:
    """Authenticates, and bounds the body. `request.state.caller` is who asks."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = Headers(scope=scope)
        bounded = _BoundedBody(receive, self._service.settings.limits.body_bytes)
        try:
            if scope["path"] not in OPEN_PATHS:
                scope.setdefault("state", {})["caller"] = self._caller(headers)
            bounded.check_length(headers)
        except ApiError as error:
            return await error.response()(scope, receive, send)
        return await self._app(scope, bounded, send)

    def _caller(self, headers: Headers) -> Caller:
        if self._service.keys is None:
            return ANONYMOUS
        scheme, _, key = headers.get("authorization", "").partition(" ")
        found = self._service.keys.find(key.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise ApiError(
                401,
                "the key is missing or not valid",
                hint="send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return found


class _BoundedBody:
    """The body of a request as it is received. Raises `ApiError` (413) once it is too long."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive = receive
        self._most = most
        self._got = 0

    def check_length(self, headers: Headers) -> None:
        length = headers.get("content-length", "")
        if length.isdecimal():
            self._check(int(length) if len(length) < 20 else self._most + 1)

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._got += len(message.get("body", b""))
            self._check(self._got)
        return message

    def _check(self, size: int) -> None:
        if size > self._most:
            hint = "send fewer or smaller pictures"
            raise ApiError(413, f"the body is larger than {self._most:,} bytes", hint=hint, code="body_too_large")


_BEARER = HTTPBearer(auto_error=False, description="a key from `colm-vl keys add`, if the service has keys")


def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


def _authenticated(
    request: Request,
    # For the OpenAPI description; the middleware does the work.
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Caller:
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


CurrentService = Annotated[Service, Depends(_service)]
Authenticated = Annotated[Caller, Depends(_authenticated)]
"""Whose request it is."""


async def _admitted(caller: Authenticated, service: CurrentService) -> Caller:
    await service.places.admit(caller)
    return caller


Admitted = Annotated[Caller, Depends(_admitted)]
"""The same, counted as one request of the caller's quota. Answers 429 or 503 if it is used up."""
