"""Ask the server if the answers differ or a client is not confident."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import field_validator
from typing_extensions import override

from colm_vl.answers import all_agree, comparable
from colm_vl.gates.base import Gate
from colm_vl.types import ClientReply, Decision


class ConfidenceGate(Gate):
    """Skips the server if all clients agree and each is more confident than `confidence`. If the confidences come from
    different sources or are unknown, the server is asked."""

    confidence: float

    @field_validator("confidence")
    @classmethod
    def _check_range(cls, confidence: float) -> float:
        if not 0 <= confidence <= 1:
            raise ValueError("expected a confidence from 0 to 1")
        return confidence

    @override
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        if not all_agree(replies.values()):
            return Decision(True, "the answers differ")
        known = [reply.confidence for reply in replies.values()]
        if not comparable(known):
            return Decision(True, "all agree, but their confidences are unknown or of different kinds")
        least = min(confidence.value or 0.0 for confidence in known)
        return Decision(
            least <= self.confidence, f"all agree, least confidence {least:.2f} against {self.confidence:.2f}"
        )


GATE = ConfidenceGate
