"""What each request has used: measured by a middleware, and reported to the ledger, the metrics and the log.

The middleware opens a `Bill`. The code that carries out the request adds the traces of its questions with `charge`.
The bill of the current request is a context variable, which tasks inherit.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from colm_vl.types import Call, Failure, Trace, Usage

UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class Charge:
    """The trace of a question, and when it began, as Unix time."""

    trace: Trace
    at: float


@dataclass(slots=True)
class Bill:
    """One request. Times are in seconds; `at` is Unix time. `status` is 499 if the client left before the reply began.

    `waited` is the time in the queue of the server, and `first_token` the time
    until the first piece of a streamed reply.
    """

    route: str
    at: float
    caller: str = ""
    status: int = 499
    seconds: float = 0.0
    first_token: float | None = None
    waited: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    method: str = ""
    traceparent: str = ""
    charges: list[Charge] = field(default_factory=list)

    @property
    def traces(self) -> Sequence[Trace]:
        return [charge.trace for charge in self.charges]

    @property
    def model(self) -> str:
        """The strategy by which it was answered."""
        return self.charges[0].trace.strategy if self.charges else ""

    @property
    def calls(self) -> Sequence[Call]:
        """Calls of models that were made, as opposed to reused."""
        return [call for trace in self.traces for call in trace.calls if not call.reused]

    @property
    def failures(self) -> Sequence[Failure]:
        return [failure for trace in self.traces for failure in trace.failures]

    @property
    def avoided(self) -> int:
        """Calls of the server that a gate skipped."""
        return sum(not gate.asked for trace in self.traces for gate in trace.gates)

    @property
    def usage(self) -> Usage:
        return sum((call.usage for call in self.calls), Usage())

    @property
    def server_tokens(self) -> int:
        servers = {member.name for trace in self.traces for member in trace.members if member.role == "server"}
        own = [call.usage for call in self.calls if call.member in servers]
        return sum(usage.prompt_tokens + usage.completion_tokens for usage in own)


class Sink(Protocol):
    """Is told of each request when it is over. Must not block."""

    def served(self, bill: Bill) -> None: ...


_BILL: ContextVar[Bill | None] = ContextVar("colm_vl.service.bill", default=None)


def charge(trace: Trace) -> None:
    """Add what a question has used to the bill of the current request, if there is one."""
    bill = _BILL.get()
    if bill is not None:
        bill.charges.append(Charge(trace, time.time() - trace.seconds))


def waited(seconds: float) -> None:
    """Add time in the queue of the server."""
    bill = _BILL.get()
    if bill is not None:
        bill.waited += seconds


def first_token() -> None:
    """Note that the first piece of a streamed reply is sent now."""
    bill = _BILL.get()
    if bill is not None and bill.first_token is None:
        bill.first_token = time.time() - bill.at


class AccountingMiddleware:
    """Opens a bill for each request, and passes it to the sinks when the request is over. Paths without a route are
    counted together."""

    def __init__(self, app: ASGIApp, sinks: Sequence[Sink], ignored: Iterable[str] = ()) -> None:
        self._app = app
        self._sinks = sinks
        self._ignored = frozenset(ignored)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._ignored:
            return await self._app(scope, receive, send)
        begun, bill = time.monotonic(), Bill(UNKNOWN, time.time(), method=scope["method"])
        bill.traceparent = Headers(scope=scope).get("traceparent", "")

        async def counted_receive() -> Message:
            message = await receive()
            bill.bytes_in += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                bill.status = message["status"]
            bill.bytes_out += len(message.get("body", b""))
            await send(message)

        token = _BILL.set(bill)
        try:
            await self._app(scope, counted_receive, counted_send)
        except ClientDisconnect:
            pass
        finally:
            _BILL.reset(token)
            bill.seconds = time.monotonic() - begun
            caller = scope.get("state", {}).get("caller")
            bill.caller = caller.name if caller is not None else ""
            route = scope.get("route")
            bill.route = getattr(route, "path", UNKNOWN)
            for sink in self._sinks:
                sink.served(bill)
