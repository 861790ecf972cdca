"""The vision version of the method as published by its authors: the other clients' drafts instead of guidance."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, exchange, select, settle
from colm_vl.strategies.base import Strategy


async def concat(run: Run) -> None:
    """Like colm, but with the other clients' drafts instead of guidance, and without a server."""
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
