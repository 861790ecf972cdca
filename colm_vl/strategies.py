"""How stages are put together to an answer. `colm` is the method (arXiv 2511.06991, Section 3); the others are what
people would use instead, on the same stages, so that all can be compared on the same drafts.

A strategy is a coroutine over a `Run`: it calls stages, which record what happens, and settles on an answer, or leaves
the question unsettled when nobody could answer. To add one, write the function and its row in `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from colm_vl.errors import ConfigError
from colm_vl.run import Replies, Run
from colm_vl.stages import (
    draft,
    exchange,
    gate,
    guide,
    refine,
    sample,
    select,
    settle,
    settle_by_vote,
    settle_on,
    verdict,
)
from colm_vl.team import Member, Team
from colm_vl.types import Refinement

SAMPLE_TEMPERATURE = 0.7


async def colm(run: Run) -> None:
    """Draft, then rounds of guidance and refinement, then settle."""
    replies = await draft(run, await select(run))
    for round in range(1, run.policy.rounds + 1):
        if not _enough(run, replies) or not gate(run, replies, round=round).asked:
            break
        guidance = await guide(run, replies, round=round)
        if guidance is None:
            replies = await _without_server(run, replies, round)
            break
        replies = await refine(run, replies, guidance, round=round)
    settle(run, replies)


async def concat(run: Run) -> None:
    """As colm, with the other clients' drafts in place of guidance: no server."""
    replies = await draft(run, await select(run))
    for round in range(1, run.policy.rounds + 1):
        replies = await exchange(run, replies, round=round)
    settle(run, replies)


async def solo(run: Run) -> None:
    """One client by itself: the one that asks."""
    replies = await draft(run, [_asker(run)])
    settle_by_vote(run, list(replies.values()))


async def server(run: Run) -> None:
    """The server by itself."""
    said = await verdict(run, {})
    if said is not None:
        settle_on(run, said)


async def vote(run: Run) -> None:
    """Drafts only; the majority answers."""
    settle_by_vote(run, list((await draft(run, await select(run))).values()))


async def self_consistency(run: Run) -> None:
    """One client samples many answers and takes the majority (Wang et al., arXiv 2203.11171).

    Without `policy.samples` it makes as many calls as colm would, so that both write about as many tokens.
    """
    clients = min(run.policy.top_k or len(run.team.clients), len(run.team.clients))
    count = run.policy.samples or clients + run.policy.rounds * (1 + clients)
    temperature = run.policy.sampling.draft.temperature or SAMPLE_TEMPERATURE
    settle_by_vote(run, await sample(run, _asker(run), count, temperature))


async def verdict_of_server(run: Run) -> None:
    """The server answers from the pictures and the drafts; clients do not refine."""
    replies = await draft(run, await select(run))
    if _enough(run, replies):
        said = await verdict(run, replies)
        if said is not None and settle_on(run, said):
            return
        run.fall_back("vote", "the server gave no readable verdict")
    settle_by_vote(run, list(replies.values()))


async def moa(run: Run) -> None:
    """Mixture of agents (Wang et al., arXiv 2406.04692): layers of clients that see all answers of the layer before,
    then the server aggregates."""
    replies = await draft(run, await select(run))
    for layer in range(1, run.policy.layers):
        replies = await exchange(run, replies, round=layer)
    if _enough(run, replies):
        said = await verdict(run, replies, round=run.policy.layers)
        if said is not None and settle_on(run, said):
            return
        run.fall_back("vote", "the server gave no readable verdict")
    settle_by_vote(run, list(replies.values()))


def _asker(run: Run) -> Member:
    return run.team.client(run.policy.asker) if run.policy.asker else run.team.clients[0]


def _enough(run: Run, replies: Replies) -> bool:
    """Whether there are the drafts to go on with; with fewer, what there is is voted on."""
    if replies and len(replies) < run.policy.min_drafts:
        run.fall_back("vote", f"{len(replies)} drafts, min_drafts is {run.policy.min_drafts}")
    return len(replies) >= max(run.policy.min_drafts, 1)


async def _without_server(run: Run, replies: Replies, round: int) -> Replies:
    """The server is gone: the clients read each other's drafts instead; if that fails too, the drafts are voted on."""
    if len(replies) > 1:
        run.fall_back("concat", "the server gave no guidance")
        replies = await exchange(run, replies, round=round)
        if any(isinstance(reply, Refinement) and reply.round == round for reply in replies.values()):
            return replies
    run.fall_back("vote", "no client could refine its answer" if len(replies) > 1 else "the server gave no guidance")
    return replies


@dataclass(frozen=True, slots=True)
class Strategy:
    """`one_client`: it concerns a single client, which may be named: `solo:charts`."""

    run: Callable[[Run], Awaitable[None]]
    summary: str
    needs_server: bool = False
    one_client: bool = False


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "colm": Strategy(colm, "clients draft, the server guides, each client refines its own answer", True),
        "concat": Strategy(concat, "clients draft, read each other's drafts, and refine; no server"),
        "solo": Strategy(solo, "one client alone: solo:NAME, or the client that asks", one_client=True),
        "server": Strategy(server, "the server alone", True),
        "vote": Strategy(vote, "clients draft, the majority answers"),
        "self_consistency": Strategy(
            self_consistency, "one client samples many answers, the majority answers", one_client=True
        ),
        "verdict": Strategy(verdict_of_server, "clients draft, the server answers from drafts and pictures", True),
        "moa": Strategy(moa, "mixture of agents: clients answer in layers, the server aggregates", True),
    }
)


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy and the team with the policy that follows from its name."""

    strategy: Strategy
    team: Team


def choose(team: Team, name: str | None = None) -> Choice:
    """Look up `name` (default: the policy's), as `colm` or `solo:charts`, and see that the team can carry it out.

    Raises `ConfigError` for an unknown strategy or client, or where a server is missing.
    """
    name = name or team.policy.strategy
    base, _, client = name.partition(":")
    strategy = STRATEGIES.get(base)
    if strategy is None:
        raise ConfigError(f"unknown strategy {name!r}", hint=f"one of: {', '.join(STRATEGIES)}")
    if client and not strategy.one_client:
        raise ConfigError(f"strategy {base!r} takes no client, got {name!r}", hint=f"write {base!r}")
    if strategy.needs_server and team.server is None:
        without = ", ".join(known for known, other in STRATEGIES.items() if not other.needs_server)
        raise ConfigError(
            f"strategy {base!r} needs a server, and {team.source} has none", hint=f"add one, or: {without}"
        )
    if client:
        team.client(client)
        return Choice(strategy, team.with_policy(strategy=name, asker=client))
    return Choice(strategy, team.with_policy(strategy=name))
