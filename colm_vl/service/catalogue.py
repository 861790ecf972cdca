"""The models that a service offers: one for each strategy that its team can carry out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from colm_vl import strategies
from colm_vl.errors import ConfigError
from colm_vl.strategies import Choice
from colm_vl.team import Team


def offered(team: Team, names: Sequence[str] | None = None) -> Mapping[str, Choice]:
    """The strategies `names`, or all that the team can carry out; by name, the team's own first. Raises `ConfigError`
    if the team cannot carry out one of `names`."""
    if names is not None:
        return {name: strategies.choose(team, name) for name in names}
    found: dict[str, Choice] = {}
    for name in (_own(team), *_all(team)):
        try:
            found[name] = strategies.choose(team, name)
        except ConfigError:  # it needs a server
            continue
    return found


def _own(team: Team) -> str:
    name = team.policy.strategy
    strategy = strategies.known().get(name)
    single = strategy is not None and strategy.one_client and strategy.one_model
    return f"{name}:{team.asker.name}" if single else name


def _all(team: Team) -> Iterator[str]:
    """A strategy of a single call is named with each client that can make it."""
    for name, strategy in sorted(strategies.known().items(), key=lambda item: -item[1].rank):
        if strategy.one_client and strategy.one_model:
            yield from (f"{name}:{client.name}" for client in team.clients)
        else:
            yield name
