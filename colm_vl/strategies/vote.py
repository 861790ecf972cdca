"""A vote over the clients' drafts."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, select, settle_by_vote
from colm_vl.strategies.base import Strategy


async def vote(run: Run) -> None:
    """The clients draft, and the majority counts."""
    settle_by_vote(run, list((await draft(run, await select(run))).values()))


STRATEGY = Strategy(
    vote,
    "clients draft, the majority counts",
    rank=20,
)
