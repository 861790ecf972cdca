"""The base class of gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from colm_vl.types import ClientReply, Decision


class Gate(BaseModel, ABC):
    """Decides before each round whether to ask the server. Its fields are its settings in a policy. If there are any,
    the first has the same name as the gate."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @abstractmethod
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        """`replies` holds each client's latest reply, by name; there is at least one."""
