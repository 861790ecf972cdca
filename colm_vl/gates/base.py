"""The base class of gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from colm_vl.types import ClientReply, Decision


class Gate(BaseModel, ABC):
    """Decides before each round whether to ask the server. Its fields are its settings in a policy. If there are any,
    the first has the same name as the gate; a gate without fields sets `name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str] = ""

    @abstractmethod
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        """`replies` holds each client's latest reply, by name; there is at least one."""
