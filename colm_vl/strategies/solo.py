"""One client alone."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, settle_by_vote
from colm_vl.strategies.base import Strategy


async def solo(run: Run) -> None:
    """The asking client answers alone."""
    replies = await draft(run, [run.asker])
    settle_by_vote(run, list(replies.values()))


STRATEGY = Strategy(
    solo,
    "one client alone: solo:NAME, or the client that asks",
    rank=0,
    one_client=True,
)
