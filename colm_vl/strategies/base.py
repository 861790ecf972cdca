"""The description of a strategy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from colm_vl.run import Run


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to answer a question.

    `run` calls stages and settles on an answer, or leaves the question unsettled if there is none. `rank` is the
    position in lists and tables: simpler strategies come first.
    """

    run: Callable[[Run], Awaitable[None]]
    summary: str
    rank: int = 70
    needs_server: bool = False
    needs_clients: bool = True
    one_client: bool = False
    """It uses a single client, which can be named: `solo:charts`."""
    samples: bool = False
    """A client answers several times."""
    refines: bool = False
    """Clients answer again after reading guidance or other drafts."""
    server_answers: bool = False
    """The server answers itself instead of writing guidance."""
    costly: bool = False
    """It makes several times as many calls as the others; the page leaves it out of comparisons by default."""

    @property
    def one_model(self) -> bool:
        """Whether the answer takes a single call to a single model."""
        return not self.needs_clients or (self.one_client and not self.samples)
