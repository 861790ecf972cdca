"""The running count of a batch."""

from __future__ import annotations

from dataclasses import dataclass, field

from colm_vl.types import Failure, Stage, Trace, Usage


@dataclass(slots=True)
class StageTally:
    """Calls of one stage. `avoided`: their replies were known already."""

    made: int = 0
    avoided: int = 0
    failed: int = 0

    @property
    def over(self) -> int:
        return self.made + self.avoided + self.failed


@dataclass(slots=True)
class Tally:
    """What a batch has done so far; it is kept up to date while the batch goes, and may be read at any time.

    One question counts once for each strategy. `total` is None where it cannot be known in advance, `kept` are answers
    of an earlier run. `usage` is of this run's calls. `notes` are what the user should know.
    """

    total: int | None = None
    kept: int = 0
    answered: int = 0
    failed: int = 0
    degraded: int = 0
    stages: dict[Stage, StageTally] = field(default_factory=dict)
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

    def stage(self, stage: Stage) -> StageTally:
        return self.stages.setdefault(stage, StageTally())

    def count(self, trace: Trace) -> None:
        """A question was finished in this run."""
        if trace.settlement is None:
            self.failed += 1
        else:
            self.answered += 1
            self.degraded += trace.degraded

    def count_call(self, stage: Stage, usage: Usage | Failure) -> None:
        """A call was made and is over."""
        if isinstance(usage, Failure):
            self.stage(stage).failed += 1
        else:
            self.stage(stage).made += 1
            self.usage += usage
