"""What a gate is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from colm_vl.types import ClientReply, Decision


class Gate(BaseModel, ABC):
    """Decides before each round whether the server is asked. Its fields are its settings in a policy; the first one,
    where there is any, bears the gate's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        """`replies` are each client's latest answer, by name, at least one."""
