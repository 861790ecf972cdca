"""The vision version of the method as its authors published it: the other clients' drafts in place of guidance."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, exchange, select, settle
from colm_vl.strategies.base import Strategy


async def concat(run: Run) -> None:
    """As colm, with the other clients' drafts in place of guidance: no server."""
    replies = await draft(run, await select(run))
    for round in range(1, run.policy.rounds + 1):
        replies = await exchange(run, replies, round=round)
    settle(run, replies)


STRATEGY = Strategy(
    concat,
    "clients draft, read each other's drafts, and refine; no server",
    rank=40,
    refines=True,
)
