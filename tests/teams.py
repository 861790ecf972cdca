"""Teams of scripted members."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from typing_extensions import override

from colm_vl import CoLM, Team
from colm_vl.backends.base import Generation, Request
from colm_vl.backends.scripted import Reply, ScriptedBackend

Script = Sequence[Any] | Callable[[Request], str]

FIVE = "Caption: five dots\nAnswer: 5\nConfidence: 90"
FOUR = "Caption: four dots\nAnswer: 4\nConfidence: 60"
GUIDANCE = "Evidence: there are five dots\nDisagreement: 4 or 5\nCheck: count the dots in the corner"


class Endless(ScriptedBackend):
    """Begins a reply and never ends it. `begun` and `cancelled` are set by its first call."""

    def __init__(self) -> None:
        super().__init__(["unused"])
        self.begun, self.cancelled = threading.Event(), threading.Event()

    @override
    async def generate(self, request: Request) -> Generation:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
        raise AssertionError

    @override
    async def stream(self, request: Request) -> AsyncIterator[str | Generation]:
        yield "Answer"
        yield await self.generate(request)


def scripted(clients: Mapping[str, Script], server: Script | None = None, **policy: Any) -> Scripted:
    """A `CoLM` with scripted members. Its `backends` record their requests."""
    return Scripted(clients, server, policy)


class Scripted(CoLM):
    def __init__(self, clients: Mapping[str, Script], server: Script | None, policy: Mapping[str, Any]) -> None:
        table = {"backend": "scripted", "model": "script", "replies": ["unused"]}
        data: dict[str, Any] = {
            "clients": [{"name": name, "specialty": f"{name} and such", **table} for name in clients],
            "policy": dict(policy),
        }
        scripts = dict(clients)
        if server is not None:
            data["server"] = table
            scripts["server"] = server
        self.backends = {name: ScriptedBackend(_read(script)) for name, script in scripts.items()}
        super().__init__(Team.from_dict(data), backends=self.backends)

    def requests(self, member: str) -> Sequence[Request]:
        return self.backends[member].requests

    def prompt(self, member: str, call: int = 0) -> str:
        """The text of all messages of one request."""
        return "\n".join(message.text for message in self.requests(member)[call].messages)


def _read(script: Script) -> Any:
    return script if callable(script) else [Reply(**entry) if isinstance(entry, dict) else entry for entry in script]
