"""Middleware that keeps the page from connecting to other hosts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# No connections to other hosts. The two "unsafe" values are needed because Gradio compiles handlers in the browser.
_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
_CLOSED = ("/file=http:", "/file=https:", "/proxy=", "/gradio_api/deep_link", "/vibe-", "/dev/reload")
"""Gradio's routes that would make the server fetch a URL given by a visitor, or that are for developers."""
_MAX_BODY = 64_000_000
"""Bytes of a request that is no upload."""


class Guard:
    """ASGI middleware that adds `_HEADERS` to every response, closes the routes in `_CLOSED`, and refuses calls that
    name a file by a web address, which Gradio would fetch."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if any(closed in scope["path"] for closed in _CLOSED):
            await PlainTextResponse("Not found.", status_code=404)(scope, receive, send)
            return
        if scope["method"] == "POST" and not _is_upload(scope):
            body = await _body(receive)
            if body is None:
                await PlainTextResponse("The request is too large.", status_code=413)(scope, receive, send)
                return
            if _names_address(body):
                refusal = PlainTextResponse("Files are uploaded, not fetched from addresses.", status_code=422)
                await refusal(scope, receive, send)
                return
            receive = _again(body, receive)

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers)


def _is_upload(scope: Scope) -> bool:
    kind: bytes = dict(scope["headers"]).get(b"content-type", b"")
    return kind.startswith(b"multipart/")


async def _body(receive: Receive) -> bytes | None:
    """The body of a request, or None if it is larger than `_MAX_BODY`."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MAX_BODY:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body that was read, and then what follows it."""
    told = False

    async def give() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return give


def _names_address(body: bytes) -> bool:
    """Whether a file object in the JSON has a web address as its path."""
    try:
        waiting: list[Any] = [json.loads(body)] if body else []
    except (ValueError, RecursionError):  # FastAPI refuses it
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if "://" in str(value.get("path", "")):
                return True
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return False


def middleware() -> Sequence[Middleware]:
    return [Middleware(Guard)]
