"""The method: clients draft, the server guides, each client refines its own answer (arXiv 2511.06991, Section 3)."""

from __future__ import annotations

from colm_vl.run import Replies, Run
from colm_vl.stages import draft, enough, exchange, gate, guide, prefetch, refine, select, settle
from colm_vl.strategies.base import Strategy
from colm_vl.types import Refinement


async def colm(run: Run) -> None:
    """Draft, then rounds of guidance and refinement, then settle."""
    clients = await select(run)
    async with prefetch(run):
        replies = await draft(run, clients)
        for round in range(1, run.policy.rounds + 1):
            if not enough(run, replies) or not gate(run, replies, round=round).asked:
                break
            guidance = await guide(run, replies, round=round)
            if guidance is None:
                replies = await _without_server(run, replies, round)
                break
            replies = await refine(run, replies, guidance, round=round)
    settle(run, replies)


async def _without_server(run: Run, replies: Replies, round: int) -> Replies:
    """Without guidance, fall back to the clients reading each other's drafts, and if that fails, to a vote."""
    if len(replies) > 1:
        run.fall_back("concat", "the server gave no guidance")
        replies = await exchange(run, replies, round=round)
        if any(isinstance(reply, Refinement) and reply.round == round for reply in replies.values()):
            return replies
    run.fall_back("vote", "no client could refine its answer" if len(replies) > 1 else "the server gave no guidance")
    return replies


STRATEGY = Strategy(
    colm,
    "clients draft, the server guides, each client refines its own answer",
    rank=100,
    needs_server=True,
    refines=True,
)
