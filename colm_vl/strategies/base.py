"""What a strategy is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from colm_vl.run import Run


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to an answer, and what others need to know of it.

    `run` calls stages, which record what happens, and settles on an answer, or leaves the question unsettled when
    nobody could answer. `rank` orders lists and tables: strategies that do less come first.
    """

    run: Callable[[Run], Awaitable[None]]
    summary: str
    rank: int = 70
    needs_server: bool = False
    needs_clients: bool = True
    one_client: bool = False
    """It concerns a single client, which may be named: `solo:charts`."""
    samples: bool = False
    """A client answers several times."""
    refines: bool = False
    """Clients answer again after they have read something."""
    server_answers: bool = False
    """The server writes an answer of its own, and no guidance."""

    costly: bool = False
    """It makes several times the calls of the others; the page compares it only if asked to."""

    @property
    def one_model(self) -> bool:
        """Whether a single call of a single model answers."""
        return not self.needs_clients or (self.one_client and not self.samples)
