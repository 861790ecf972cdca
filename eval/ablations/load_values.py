"""The settings and the results of ablation load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..durations import Percentiles


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """Each number of `askers` is measured for `seconds`. The server answers `places` requests at a time.

    `slowdown` multiplies the times of clients, by name. Each of the `gates`, written as in `--set gate=`, is a setup.
    `stub`: clients are stub endpoints. Otherwise each of their replies is computed once, and repeated after the same
    time; with `replay_server`, those of the server, too.
    """

    askers: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    seconds: float = 20.0
    places: int = 1
    slowdown: Mapping[str, float] = field(default_factory=dict)
    gates: tuple[str, ...] = ("disagreement", "confidence=0.9")
    replay_server: bool = False
    stub: bool = False


@dataclass(frozen=True, slots=True)
class LoadMeasurement:
    """`times` are those of the answered questions, None if there were none.

    `throughput` is in questions per second, `busy` the share of the server's places in use, `calls` the number of
    server calls of a question, and `failed` the number of questions without an answer. `grades` are those of all
    answers that were given, by question, also before the measurement; empty without gold answers.
    """

    times: Percentiles | None
    throughput: float
    busy: float
    calls: float
    failed: int
    grades: Mapping[str, float]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        times = data["times"]
        return cls(**{**data, "times": Percentiles(**times) if times else None})


@dataclass(frozen=True, slots=True)
class SetupLoad:
    """The measurements of a setup by the number of askers."""

    by_askers: Mapping[int, LoadMeasurement]

    @property
    def accuracy(self) -> float | None:
        """Of all questions that were answered, since load does not change answers. None without gold answers."""
        grades: dict[str, float] = {}
        for one in self.by_askers.values():
            grades |= one.grades
        return sum(grades.values()) / len(grades) if grades else None

    def correct(self, askers: int) -> float | None:
        """Correct answers per second."""
        accuracy = self.accuracy
        return None if accuracy is None else accuracy * self.by_askers[askers].throughput
