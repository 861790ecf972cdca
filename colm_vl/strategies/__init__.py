"""Strategies: each combines stages into a way to answer a question.

`colm` is the method (arXiv 2511.06991, Section 3). The others are its alternatives, built on the same stages, so that
all can be compared on the same drafts. A strategy is a module in this folder that defines `STRATEGY`. Policies refer to
it by its file name. Other packages can register strategies as entry points of the group `colm_vl.strategies`.
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
    """All strategies by name, sorted by rank. Those that cannot be loaded are left out, with a warning in the log."""
    found: dict[str, Strategy] = {}
    for name in _STRATEGIES.names():
        try:
            found[name] = _load(name)
        except ConfigError as error:
            logger.warning("%s", error)
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))


def find(name: str) -> Strategy:
    """The strategy for a name such as `colm` or `solo:charts`. Raises `ConfigError` if there is none."""
    return _load(name.partition(":")[0])


def _load(name: str) -> Strategy:
    strategy = getattr(_STRATEGIES.module(name), "STRATEGY", None)
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"strategy {name!r} has no STRATEGY", hint="define one, a colm_vl.strategies.Strategy, in it")
    return strategy


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy, and the team with its policy set to that strategy."""

    strategy: Strategy
    team: Team


def choose(team: Team, name: str | None = None) -> Choice:
    """Find the strategy `name` (such as `colm` or `solo:charts`; default: the policy's) and check that the team can
    run it.

    Raises `ConfigError` if the strategy or the client is unknown, or if the strategy needs a server and there is none.
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
