"""The base class of gates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from colm_vl.types import ClientReply, Decision, MemberInfo


class Gate(BaseModel, ABC):
    """Decides before each round whether to ask the server. Its fields are its settings in a policy. If there are any,
    the first has the same name as the gate; a gate without fields sets `name`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str] = ""
    reads_files: ClassVar[bool] = False
    """Whether its settings name files. Such a gate cannot be chosen by a request to a service."""

    def void_for(self, members: Sequence[MemberInfo], policy: BaseModel) -> str:
        """Why the gate cannot be used for a team of these members under this `Policy`, or "" if it can. The server is
        then always asked."""
        return ""

    @abstractmethod
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        """`replies` holds each client's latest reply, by name; there is at least one."""
