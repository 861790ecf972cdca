"""The server answers from the pictures and the clients' drafts."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, enough, select, settle_by_vote, settle_on
from colm_vl.stages import verdict as ask_for_verdict
from colm_vl.strategies.base import Strategy


async def verdict(run: Run) -> None:
    """The clients draft, and the server answers from the pictures and the drafts."""
    replies = await draft(run, await select(run))
    if enough(run, replies):
        said = await ask_for_verdict(run, replies)
        if said is not None and settle_on(run, said):
            return
        run.fall_back("vote", "the server gave no readable verdict")
    settle_by_vote(run, list(replies.values()))


STRATEGY = Strategy(
    verdict,
    "clients draft, the server answers from drafts and pictures",
    rank=50,
    needs_server=True,
    server_answers=True,
)
