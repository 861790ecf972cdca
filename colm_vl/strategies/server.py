"""The server alone."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import settle_on, verdict
from colm_vl.strategies.base import Strategy


async def server(run: Run) -> None:
    """The server answers alone."""
    said = await verdict(run, {})
    if said is not None:
        settle_on(run, said)


STRATEGY = Strategy(
    server,
    "the server alone",
    rank=10,
    needs_server=True,
    needs_clients=False,
    server_answers=True,
)
