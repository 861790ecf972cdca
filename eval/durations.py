"""Where the time of a run went: the durations of its calls by stage and member, and of its questions by strategy."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from colm_vl.extras import require
from colm_vl.types import STAGE_TITLES, Call, Stage, Timing, Trace

from .costs import CallTimes, call_id


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of `count` durations, in seconds. Between two durations, percentiles are interpolated."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles | None:
        """None if there are none."""
        if not seconds:
            return None
        p50, p95, p99 = map(float, require("numpy", "eval").percentile(seconds, (50, 95, 99)))
        return cls(len(seconds), sum(seconds) / len(seconds), p50, p95, p99)


@dataclass(frozen=True, slots=True)
class Parts:
    """Total seconds in the parts of calls (see `Timing`). `unknown` is in no known part."""

    queued: float
    prefill: float
    decode: float
    unknown: float

    @property
    def all(self) -> float:
        return self.queued + self.prefill + self.decode + self.unknown


@dataclass(frozen=True, slots=True)
class MemberTime:
    """The calls of one member in one stage. `untimed` of them have an unknown duration and count in nothing else."""

    stage: Stage
    member: str
    calls: int
    untimed: int
    whole: Percentiles | None
    queued: Percentiles | None
    prefill: Percentiles | None
    decode: Percentiles | None
    totals: Parts


@dataclass(frozen=True, slots=True)
class QuestionTime:
    """The questions of one strategy, as if it had been run alone. `untimed` of them have an unknown duration."""

    strategy: str
    questions: int
    untimed: int
    whole: Percentiles | None


@dataclass(frozen=True, slots=True)
class RunTime:
    """`questions` is the number of different questions."""

    questions: int
    members: tuple[MemberTime, ...]
    strategies: tuple[QuestionTime, ...]


class TimeTally:
    """The durations of a run, under the load of that run, added up question by question."""

    def __init__(self) -> None:
        self._questions = 0
        self._members: dict[str, None] = {}
        self._calls: defaultdict[tuple[Stage, str], _Calls] = defaultdict(_Calls)
        self._whole: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
        self._asked: Counter[str] = Counter()

    def add(self, traces: Mapping[str, Trace], times: CallTimes) -> None:
        """Add one question, with its trace by each strategy."""
        self._questions += 1
        for trace in traces.values():
            self._members |= dict.fromkeys(member.name for member in trace.members)
        for trace, call in _once(list(traces.values())):
            self._calls[call.stage, call.member].add(times.of(trace, call), call.timing)
        for strategy, trace in traces.items():
            self._asked[strategy] += 1
            seconds = _alone(trace, times)
            if seconds is not None:
                self._whole[strategy].append(seconds)

    def total(self, strategies: Sequence[str]) -> RunTime:
        """`strategies` are in the order of the report."""
        return RunTime(
            questions=self._questions,
            members=tuple(
                self._calls[stage, member].total(stage, member)
                for stage in STAGE_TITLES
                for member in self._members
                if (stage, member) in self._calls
            ),
            strategies=tuple(map(self._strategy, strategies)),
        )

    def _strategy(self, name: str) -> QuestionTime:
        whole, asked = self._whole[name], self._asked[name]
        return QuestionTime(name, asked, asked - len(whole), Percentiles.of(whole))


class _Calls:
    """The calls of one member in one stage. The arrays hold the known durations."""

    def __init__(self) -> None:
        self._count = 0
        self._whole, self._queued, self._prefill, self._decode = (array("d") for _ in range(4))
        self._unknown = 0.0

    def add(self, seconds: float | None, timing: Timing) -> None:
        self._count += 1
        if seconds is None:
            return
        # Durations from a journal do not include waiting in the queue of this process, and `timing.queued` does.
        whole = max(seconds, timing.known)
        self._whole.append(whole)
        self._unknown += whole - timing.known
        for part, found in (
            (timing.queued, self._queued),
            (timing.prefill, self._prefill),
            (timing.decode, self._decode),
        ):
            if part is not None:
                found.append(part)

    def total(self, stage: Stage, member: str) -> MemberTime:
        return MemberTime(
            stage=stage,
            member=member,
            calls=self._count,
            untimed=self._count - len(self._whole),
            whole=Percentiles.of(self._whole),
            queued=Percentiles.of(self._queued),
            prefill=Percentiles.of(self._prefill),
            decode=Percentiles.of(self._decode),
            totals=Parts(sum(self._queued), sum(self._prefill), sum(self._decode), self._unknown),
        )


def _once(traces: Sequence[Trace]) -> Iterator[tuple[Trace, Call]]:
    """Each call once. A call that a strategy reused is left out if another strategy of this run made it."""
    seen = set()
    for reused in (False, True):
        for trace in traces:
            for call in trace.calls:
                key = call_id(trace, call)
                if call.reused is reused and not (reused and key in seen):
                    seen.add(key)
                    yield trace, call


def _alone(trace: Trace, times: CallTimes) -> float | None:
    """The duration of a question if its strategy had been run alone: reused calls take as long as when they were made.
    Calls of one stage run at the same time. None if the duration of a reused call is unknown."""
    stages: defaultdict[tuple[str, int], list[Call]] = defaultdict(list)
    for call in trace.calls:
        stages[call.stage, call.round].append(call)
    saved = 0.0
    for calls in stages.values():
        whole = [times.of(trace, call) for call in calls]
        known = [seconds for seconds in whole if seconds is not None]
        if len(known) < len(whole):
            return None
        saved += max(known) - max((call.seconds for call in calls if not call.reused), default=0.0)
    return trace.seconds + saved


def by_stage(members: Sequence[MemberTime]) -> Mapping[Stage, Sequence[MemberTime]]:
    """The members' times by stage, in order."""
    stages: dict[Stage, list[MemberTime]] = {}
    for one in members:
        stages.setdefault(one.stage, []).append(one)
    return stages
