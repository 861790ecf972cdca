"""Mixture of agents (Wang et al., arXiv 2406.04692)."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, exchange, select, settle_by_verdict
from colm_vl.strategies.base import Strategy


async def moa(run: Run) -> None:
    """Layers of clients, each of which sees the answers of the previous layer; then the server aggregates."""
    replies = await draft(run, await select(run))
    for layer in range(1, run.policy.layers):
        replies = await exchange(run, replies, round=layer)
    await settle_by_verdict(run, replies, round=run.policy.layers)


STRATEGY = Strategy(
    moa,
    "mixture of agents: clients answer in layers, the server aggregates",
    rank=60,
    needs_server=True,
    server_answers=True,
    refines=True,
    costly=True,
)
