"""Middleware that keeps the page from connecting to other hosts."""

from __future__ import annotations

from collections.abc import Sequence

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


class Guard:
    """ASGI middleware that adds `_HEADERS` to every response and closes the routes in `_CLOSED`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if any(closed in scope["path"] for closed in _CLOSED):
            await PlainTextResponse("Not found.", status_code=404)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADERS]
            await send(message)

        await self._app(scope, receive, with_headers)


def middleware() -> Sequence[Middleware]:
    return [Middleware(Guard)]
