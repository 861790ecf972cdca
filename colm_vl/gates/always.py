"""Always ask the server."""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import override

from colm_vl.gates.base import Gate
from colm_vl.types import ClientReply, Decision


class AlwaysGate(Gate):
    name = "always"

    @override
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        return Decision(True, "the policy asks always")


GATE = AlwaysGate
