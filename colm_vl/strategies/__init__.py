"""How stages are put together to an answer: one file a strategy.

`colm` is the method (arXiv 2511.06991, Section 3); the others are what people would use instead, on the same stages, so
that all can be compared on the same drafts. A strategy is a module of this folder with `STRATEGY`; its file name is
what a policy calls it. Other packages announce theirs as entry points of the group `colm_vl.strategies`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from colm_vl.errors import ConfigError
from colm_vl.plugins import Plugins
from colm_vl.strategies.base import Strategy
from colm_vl.team import Team

__all__ = ["Choice", "Strategy", "choose", "find", "known"]

logger = logging.getLogger(__name__)

_STRATEGIES = Plugins("colm_vl.strategies", "colm_vl.strategies", "strategy", helpers=frozenset({"base"}))


def known() -> Mapping[str, Strategy]:
    """All strategies by name, in the order of their ranks. One of another package that cannot be loaded is left out."""
    found: dict[str, Strategy] = {}
    for name in _STRATEGIES.names():
        try:
            found[name] = _load(name)
        except ConfigError as error:
            logger.warning("%s", error)
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


def find(name: str) -> Strategy:
    """The strategy of a name such as `colm` or `solo:charts`. Raises `ConfigError` if there is none."""
    return _load(name.partition(":")[0])


def _load(name: str) -> Strategy:
    strategy = getattr(_STRATEGIES.module(name), "STRATEGY", None)
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"strategy {name!r} has no STRATEGY", hint="define one, a colm_vl.strategies.Strategy, in it")
    return strategy


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
    strategy = find(name)
    if client and not strategy.one_client:
        raise ConfigError(f"strategy {base!r} takes no client, got {name!r}", hint=f"write {base!r}")
    if strategy.needs_server and team.server is None:
        without = ", ".join(other_name for other_name, other in known().items() if not other.needs_server)
        raise ConfigError(
            f"strategy {base!r} needs a server, and {team.source} has none", hint=f"add one, or: {without}"
        )
    if client:
        team.client(client)
        return Choice(strategy, team.with_policy(strategy=name, asker=client))
    return Choice(strategy, team.with_policy(strategy=name))
