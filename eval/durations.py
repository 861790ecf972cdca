"""Where the time of a run went: the durations of its calls by stage and member, and of its questions by strategy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from colm_vl.extras import require
from colm_vl.types import STAGE_TITLES, Call, Stage, Timing, Trace

from .costs import CallTimes, call_id
from .run_folder import Evaluation


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of `count` durations, in seconds. Between two durations, percentiles are interpolated."""

    count: int
    mean: float
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, seconds: Iterable[float | None]) -> Percentiles | None:
        """Of those that are known; None if none is."""
        known = [one for one in seconds if one is not None]
        if not known:
            return None
        p50, p95, p99 = map(float, require("numpy", "eval").percentile(known, (50, 95, 99)))
        return cls(len(known), sum(known) / len(known), p50, p95, p99)


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


@dataclass(frozen=True, slots=True)
class _TimedCall:
    seconds: float
    timing: Timing


def run_time(evaluation: Evaluation, strategies: Sequence[str], times: CallTimes) -> RunTime:
    """The durations of a run, under the load of that run. `strategies` are in the order of the report."""
    every = [trace for traces in evaluation.traces.values() for trace in traces]
    return RunTime(
        questions=len({trace.id for trace in every}),
        members=tuple(_members(every, times)),
        strategies=tuple(_strategy(name, evaluation.traces[name], times) for name in strategies),
    )


def _members(traces: Sequence[Trace], times: CallTimes) -> Iterator[MemberTime]:
    found: defaultdict[tuple[Stage, str], list[_TimedCall | None]] = defaultdict(list)
    for trace, call in _once(traces):
        seconds = times.of(trace, call)
        timing = call.timing
        # Durations from a journal do not include waiting in the queue of this process, and `timing.queued` does.
        timed = None if seconds is None else _TimedCall(max(seconds, timing.known), timing)
        found[call.stage, call.member].append(timed)
    members = dict.fromkeys(member.name for trace in traces for member in trace.members)
    for stage in STAGE_TITLES:
        for member in members:
            if calls := found.get((stage, member)):
                yield _member(stage, member, calls)


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


def _member(stage: Stage, member: str, calls: Sequence[_TimedCall | None]) -> MemberTime:
    timed = [call for call in calls if call is not None]
    queued, prefill, decode = (
        [getattr(call.timing, name) for call in timed] for name in ("queued", "prefill", "decode")
    )
    return MemberTime(
        stage=stage,
        member=member,
        calls=len(calls),
        untimed=len(calls) - len(timed),
        whole=Percentiles.of(call.seconds for call in timed),
        queued=Percentiles.of(queued),
        prefill=Percentiles.of(prefill),
        decode=Percentiles.of(decode),
        totals=Parts(
            queued=sum(filter(None, queued)),
            prefill=sum(filter(None, prefill)),
            decode=sum(filter(None, decode)),
            unknown=sum(call.seconds - call.timing.known for call in timed),
        ),
    )


def _strategy(name: str, traces: Sequence[Trace], times: CallTimes) -> QuestionTime:
    seconds = [_alone(trace, times) for trace in traces]
    return QuestionTime(name, len(traces), seconds.count(None), Percentiles.of(seconds))


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
