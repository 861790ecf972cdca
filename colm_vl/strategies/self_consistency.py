"""One client, many samples (Wang et al., arXiv 2203.11171)."""

from __future__ import annotations

from colm_vl.run import Run
from colm_vl.stages import sample, settle_by_vote
from colm_vl.strategies.base import Strategy

SAMPLE_TEMPERATURE = 0.7


async def self_consistency(run: Run) -> None:
    """One client samples many answers, and the majority counts.

    Without `policy.samples`, it makes as many calls as colm, so that both write about the same number of tokens.
    """
    clients = min(run.policy.top_k or len(run.team.clients), len(run.team.clients))
    count = run.policy.samples or clients + run.policy.rounds * (1 + clients)
    temperature = run.policy.sampling.draft.temperature or SAMPLE_TEMPERATURE
    settle_by_vote(run, await sample(run, run.asker, count, temperature))


STRATEGY = Strategy(
    self_consistency,
    "one client samples many answers, the majority counts",
    rank=30,
    one_client=True,
    samples=True,
    costly=True,
)
