"""The server answers from the pictures and the clients' drafts."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import draft, select, settle_by_verdict
from colm_vl.strategies.base import Strategy


async def verdict(run: Run) -> None:
    """The clients draft, and the server answers from the pictures and the drafts."""
    await settle_by_verdict(run, await draft(run, await select(run)))


STRATEGY = Strategy(
    verdict,
    "clients draft, the server answers from drafts and pictures",
    rank=50,
    needs_server=True,
    server_answers=True,
)
