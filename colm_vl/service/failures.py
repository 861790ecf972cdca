"""What the service says of a member that failed: no address, model or message of the member itself."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from colm_vl.errors import (
    BackendError,
    BadReply,
    ContextTooLong,
    RateLimited,
    TimedOut,
    Unavailable,
    Unsupported,
)
from colm_vl.service.queue import Refusal
from colm_vl.types import Failure

_TOLD: Mapping[type[BackendError], tuple[str, str]] = MappingProxyType(
    {
        TimedOut: ("the server did not answer in time", "try again, or ask for less"),
        BadReply: ("the server's reply could not be read", "try again"),
        ContextTooLong: ("the request does not fit the context of the server's model", "send shorter texts"),
        Unsupported: (
            "the server's model does not take these pictures",
            'send fewer or smaller pictures, or none (share = "captions")',
        ),
        Unavailable: ("the server failed or cannot be reached", "try again later"),
    }
)
_BY_KIND: Mapping[str, type[BackendError]] = MappingProxyType({kind.kind: kind for kind in _TOLD})


def told(failure: Failure, retry_after: float) -> BackendError:
    """The failure as a caller may see it. `retry_after` is in seconds, for failures because of too many calls."""
    if failure.kind == Refusal.kind:
        return RateLimited(failure.message, hint=failure.hint, retry_after=retry_after)
    if failure.kind == RateLimited.kind:
        return RateLimited("the server is busy", hint="try again later", retry_after=retry_after)
    kind = _BY_KIND.get(failure.kind, Unavailable)
    message, hint = _TOLD[kind]
    return kind(message, hint=hint)
