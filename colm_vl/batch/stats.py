"""Counts of a batch."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import NamedTuple

from colm_vl.store import CallKey, Outcome
from colm_vl.types import Failure, Stage, Trace, Usage


@dataclass(slots=True)
class StageStats:
    """Calls of one stage, each counted once for a question. `avoided`: the reply was already known, from an earlier run
    or from another question."""

    made: int = 0
    avoided: int = 0
    failed: int = 0

    @property
    def over(self) -> int:
        return self.made + self.avoided + self.failed

    def add(self, other: StageStats) -> None:
        self.made += other.made
        self.avoided += other.avoided
        self.failed += other.failed


@dataclass(slots=True)
class BatchStats:
    """Counts of a batch, updated while it runs; they can be read at any time.

    A question counts once for each strategy. `total` is None if it is not known in advance. `kept` counts answers from
    earlier runs. `usage` is that of this run's calls. `notes` are messages for the user.
    """

    total: int | None = None
    kept: int = 0
    answered: int = 0
    failed: int = 0
    degraded: int = 0
    stages: dict[Stage, StageStats] = field(default_factory=dict)
    usage: Usage = Usage()
    notes: list[str] = field(default_factory=list)

    @property
    def over(self) -> int:
        return self.kept + self.answered + self.failed

    @property
    def calls(self) -> int:
        return sum(stage.made for stage in self.stages.values())

    @property
    def avoided(self) -> int:
        return sum(stage.avoided for stage in self.stages.values())

    def stage(self, stage: Stage) -> StageStats:
        return self.stages.setdefault(stage, StageStats())

    def add_calls(self, other: BatchStats) -> None:
        """Add the calls that were made elsewhere."""
        self.usage += other.usage
        for stage, calls in other.stages.items():
            self.stage(stage).add(calls)

    def count(self, trace: Trace) -> None:
        """Count a question that was finished in this run."""
        if trace.settlement is None:
            self.failed += 1
        else:
            self.answered += 1
            self.degraded += trace.degraded
        for call in trace.calls:
            if call.stage == "prefetch":  # it is not in the journal, where other calls are counted
                self.stage("prefetch").made += 1
                self.usage += call.usage


class Clock:
    """The times of one question and one strategy over several passes, without the time between the passes."""

    def __init__(self) -> None:
        self._earlier = 0.0
        self._begun = 0.0
        self._started: dict[_CallPlace, float] = {}

    @contextmanager
    def running(self) -> Generator[None, None, None]:
        """Count the time of a pass."""
        self._begun = time.monotonic()
        try:
            yield
        finally:
            self._earlier += time.monotonic() - self._begun

    def now(self) -> float:
        return self._earlier + time.monotonic() - self._begun

    def start(self, key: CallKey, started: float) -> None:
        """Note when a call was started, unless it was started in an earlier pass."""
        self._started.setdefault(_CallPlace(key.member.name, key.stage, key.round, key.sample), started)

    def timed(self, trace: Trace) -> Trace:
        """The trace of the last pass, with the times of all passes."""
        calls = [
            replace(call, started=self._started.get(place, call.started))
            for call in trace.calls
            for place in [_CallPlace(call.member, call.stage, call.round, call.sample)]
        ]
        return replace(trace, calls=tuple(sorted(calls, key=attrgetter("started"))), seconds=self._earlier)


class _CallPlace(NamedTuple):
    """Identifies a call of one question and one strategy."""

    member: str
    stage: Stage
    round: int
    sample: int


class Account:
    """Counts the calls of one question over all strategies and passes. Each call is counted once, for the strategy that
    made it. Each strategy has a clock."""

    def __init__(self, stats: BatchStats) -> None:
        self._stats = stats
        self._payers: dict[str, str] = {}
        self._clocks: dict[str, Clock] = {}

    def clock(self, strategy: str) -> Clock:
        return self._clocks.setdefault(strategy, Clock())

    def made(self, key: CallKey, outcome: Outcome, strategy: str) -> None:
        """Count a call that was made."""
        self._payers[key.digest] = strategy
        stage = self._stats.stage(key.stage)
        if isinstance(outcome, Failure):
            stage.failed += 1
        else:
            stage.made += 1
            self._stats.usage += outcome.usage

    def found(self, key: CallKey, outcome: Outcome) -> None:
        """Count a call whose outcome was known, unless this question made it."""
        if key.digest not in self._payers:
            self._payers[key.digest] = ""
            stage = self._stats.stage(key.stage)
            if isinstance(outcome, Failure):
                stage.failed += 1
            else:
                stage.avoided += 1

    def payer(self, key: CallKey) -> str:
        """The strategy that made the call for this question in this run, or ""."""
        return self._payers.get(key.digest, "")
