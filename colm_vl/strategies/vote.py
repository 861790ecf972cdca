"""The clients' drafts alone."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, select, settle_by_vote
from colm_vl.strategies.base import Strategy


async def vote(run: Run) -> None:
    """Drafts only; the majority answers."""
    settle_by_vote(run, list((await draft(run, await select(run))).values()))


STRATEGY = Strategy(
    vote,
    "clients draft, the majority answers",
    rank=20,
)
