"""Mixture of agents (Wang et al., arXiv 2406.04692)."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, enough, exchange, select, settle_by_vote, settle_on, verdict
from colm_vl.strategies.base import Strategy


async def moa(run: Run) -> None:
    """Layers of clients, each of which sees the answers of the previous layer; then the server aggregates."""
    replies = await draft(run, await select(run))
    for layer in range(1, run.policy.layers):
        replies = await exchange(run, replies, round=layer)
    if enough(run, replies):
        said = await verdict(run, replies, round=run.policy.layers)
        if said is not None and settle_on(run, said):
            return
        run.fall_back("vote", "the server gave no readable verdict")
    settle_by_vote(run, list(replies.values()))


STRATEGY = Strategy(
    moa,
    "mixture of agents: clients answer in layers, the server aggregates",
    rank=60,
    needs_server=True,
    server_answers=True,
    refines=True,
    costly=True,
)
