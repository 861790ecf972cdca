"""The variants of each ablation: of the team, the policy or the strategy. The others are compared with the first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from colm_vl.backends.base import Backend
from colm_vl.errors import ConfigError
from colm_vl.strategies.self_consistency import SAMPLE_TEMPERATURE
from colm_vl.team import Member, Team

from ..run_folder import read_traces
from ..slug import slug
from .kinds import Ablation
from .wrappers import Misguiding, RecordedGuidance, Reseeded, SharedBackend


@dataclass(frozen=True, slots=True)
class Variant:
    """`backends` replace those of members, by member name."""

    name: str
    team: Team
    strategy: str = "colm"
    policy: Mapping[str, Any] = field(default_factory=dict)
    backends: Mapping[str, Backend] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AblationSettings:
    """What users can set. `shares` and `smaller`, a team file with a smaller server model, are for ablation server."""

    max_rounds: int = 3
    all_subsets: bool = False
    shares: tuple[float, ...] = (0.25, 0.5, 1.0)
    smaller: Path | None = None


def rounds(team: Team, settings: AblationSettings, _: Path) -> Iterator[Variant]:
    yield Variant("0 rounds (vote)", team, "vote")
    for count in range(1, settings.max_rounds + 1):
        yield Variant(f"{count} round{'s' if count > 1 else ''}", team, policy={"rounds": count})


def clients(team: Team, settings: AblationSettings, _: Path) -> Iterator[Variant]:
    """All clients, then fewer: the first N of the team, or every subset."""
    yield Variant(f"all {len(team.clients)}", team)
    for count in range(len(team.clients) - 1, 0, -1):
        subsets = combinations(team.clients, count) if settings.all_subsets else [team.clients[:count]]
        for subset in subsets:
            yield Variant("+".join(member.name for member in subset), _with_clients(team, subset))


def diversity(team: Team, settings: AblationSettings, _: Path) -> Iterator[Variant]:
    """Different clients compared with copies of a single one. Copies only differ if they are sampled, so there is also
    a sampled variant of the different clients."""
    count = len(team.clients)
    if count < 2:
        raise ConfigError(f"{team.source} has one client, diversity needs two or more", hint="add another client")
    sampling = team.policy.sampling.model_dump()
    sampling["draft"]["temperature"] = sampling["draft"]["temperature"] or SAMPLE_TEMPERATURE
    yield Variant("different, sampled", team, policy={"sampling": sampling})
    yield Variant("different, as configured", team)
    for client in team.clients:
        shared = SharedBackend(client)
        copies = [replace(client, name=f"{client.name}-{number}") for number in range(1, count + 1)]
        backends: dict[str, Backend] = {copy.name: Reseeded(shared, shift) for shift, copy in enumerate(copies)}
        yield Variant(
            f"{count} × {client.name}", _with_clients(team, copies), policy={"sampling": sampling}, backends=backends
        )


def server(team: Team, settings: AblationSettings, out: Path) -> Iterator[Variant]:
    """A weakened server. Guidance for other questions is taken from the run of the first variant."""
    first = Variant("as it is", team)
    yield first
    whole = _server_of(team)
    yield Variant("captions only", team, policy={"share": "captions"})
    yield Variant("no server (concat)", team, "concat")
    if settings.smaller is not None:
        yield Variant("smaller", replace(team, server=_server_of(Team.load(settings.smaller))))
    else:
        client = team.clients[0]
        stand_in = replace(client, name=whole.name, role="server", specialty="")
        yield Variant(f"{client.name} in its place", replace(team, server=stand_in))
    advice = [
        RecordedGuidance(trace.question, one.text)
        for trace in read_traces(out / slug(first.name))
        for one in trace.guidance
    ]
    for share in settings.shares:
        label = f"{whole.label}, {share:.0%} of its guidance of other questions"
        member = replace(whole, label=label)
        backends: dict[str, Backend] = {whole.name: Misguiding(SharedBackend(whole), share, advice)}
        yield Variant(f"{share:.0%} misguided", replace(team, server=member), backends=backends)


def guidance(team: Team, settings: AblationSettings, _: Path) -> Iterator[Variant]:
    yield Variant("with guidance (colm)", team)
    yield Variant("drafts in its place (concat)", team, "concat")
    yield Variant("neither (vote)", team, "vote")


def refinement(team: Team, settings: AblationSettings, _: Path) -> Iterator[Variant]:
    yield Variant("with refinement (colm)", team)
    yield Variant("the server decides (verdict)", team, "verdict")
    yield Variant("drafts only (vote)", team, "vote")


VARIANTS: Mapping[Ablation, Callable[[Team, AblationSettings, Path], Iterator[Variant]]] = {
    Ablation.ROUNDS: rounds,
    Ablation.CLIENTS: clients,
    Ablation.DIVERSITY: diversity,
    Ablation.SERVER: server,
    Ablation.GUIDANCE: guidance,
    Ablation.REFINEMENT: refinement,
}


def _with_clients(team: Team, members: Sequence[Member]) -> Team:
    """The asker is unset if it is not among them."""
    names = {member.name for member in members}
    policy = team.policy if team.policy.asker in names else team.policy.updated({"asker": None})
    return replace(team, clients=tuple(members), policy=policy)


def _server_of(team: Team) -> Member:
    if team.server is None:
        raise ConfigError(f"{team.source} has no server to weaken", hint="add a [server]")
    return team.server
