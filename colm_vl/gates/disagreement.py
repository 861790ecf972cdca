"""Ask the server if the answers differ."""

from __future__ import annotations

from collections.abc import Mapping

from typing_extensions import override

from colm_vl.answers import all_agree
from colm_vl.gates.base import Gate
from colm_vl.types import ClientReply, Decision


class DisagreementGate(Gate):
    name = "disagreement"

    @override
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        if all_agree(replies.values()):
            return Decision(False, "all answers agree")
        return Decision(True, "the answers differ")


GATE = DisagreementGate
