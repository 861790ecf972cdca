"""What a run measured: for each question, how long its calls took, with the server and if a gate skips it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from colm_vl.errors import InputError
from colm_vl.types import Call, Trace

from ..costs import CallTimes, Journal, seconds_of_calls
from ..durations import Percentiles
from ..run_folder import Evaluation

GUIDED = ("guide", "verdict")
"""The stages that a gate skips, and what follows them."""


@dataclass(frozen=True, slots=True)
class ClientCall:
    client: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Step:
    """Calls that begin at the same time. The next step begins when the last of them has ended."""

    clients: tuple[ClientCall, ...]
    server: tuple[float, ...]
    """The seconds of each call of the server."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question in which the server was asked. A gate that skips it leaves the first `drafting` of the `steps`."""

    id: str
    steps: tuple[Step, ...]
    drafting: int

    def taken(self, *, asked: bool) -> tuple[Step, ...]:
        return self.steps if asked else self.steps[: self.drafting]


@dataclass(frozen=True, slots=True)
class StageTime:
    """The calls of one member in one stage."""

    stage: str
    member: str
    seconds: Percentiles


@dataclass(frozen=True, slots=True)
class Measured:
    """`left_out` counts questions in which a call failed, or whose times are not known."""

    strategy: str
    clients: tuple[str, ...]
    questions: tuple[Question, ...]
    traces: tuple[Trace, ...]
    stages: tuple[StageTime, ...]
    left_out: int


def measured(evaluation: Evaluation, strategy: str, slowdown: Mapping[str, float]) -> Measured:
    """`slowdown` multiplies the times of clients, by name.

    Raises `InputError` if the run has no answers of the strategy, an unknown client is slowed, or the server was never
    called.
    """
    traces = evaluation.traces.get(strategy)
    if not traces:
        known = ", ".join(evaluation.traces)
        raise InputError(f"{evaluation.label}: no answers of {strategy!r}", hint=f"it has answers of {known}")
    clients = tuple(dict.fromkeys(one.name for trace in traces for one in trace.members if one.role == "client"))
    unknown = next((name for name in slowdown if name not in clients), None)
    if unknown is not None:
        raise InputError(f"no client is called {unknown!r}", hint=f"--slow takes: {', '.join(clients)}")
    every = (trace for of_strategy in evaluation.traces.values() for trace in of_strategy)
    times = CallTimes(seconds_of_calls(every), Journal(evaluation.folder))
    questions: list[Question] = []
    used: list[Trace] = []
    by_stage: dict[tuple[str, str], list[float]] = {}
    for trace in traces:
        calls = None if trace.degraded else _timed(trace, times, slowdown)
        if calls is None:
            continue
        used.append(trace)
        questions.append(_question(trace, calls))
        for call in calls:
            by_stage.setdefault((call.stage, call.member), []).append(call.seconds)
    if not any(step.server for question in questions for step in question.steps):
        raise InputError(
            f"{evaluation.label}: no call of a server in {len(traces)} questions of {strategy!r}",
            hint="give a run in which the server was asked, and --strategy",
        )
    stages = tuple(
        StageTime(stage, member, percentiles)
        for (stage, member), seconds in by_stage.items()
        if (percentiles := Percentiles.of(seconds))
    )
    return Measured(strategy, clients, tuple(questions), tuple(used), stages, len(traces) - len(used))


@dataclass(frozen=True, slots=True)
class _TimedCall:
    stage: str
    round: int
    member: str
    of_server: bool
    seconds: float


def _timed(trace: Trace, times: CallTimes, slowdown: Mapping[str, float]) -> list[_TimedCall] | None:
    """None if the duration of a call is not known."""
    roles = {member.name: member.role for member in trace.members}
    calls = []
    for call in trace.calls:
        seconds = _service_time(trace, call, times)
        if seconds is None:
            return None
        seconds *= slowdown.get(call.member, 1.0)
        calls.append(_TimedCall(call.stage, call.round, call.member, roles.get(call.member) == "server", seconds))
    return calls


def _service_time(trace: Trace, call: Call, times: CallTimes) -> float | None:
    """Without waiting for the model to be free, as far as that is known."""
    timing = call.timing
    if timing.prefill is not None and timing.decode is not None:
        return timing.prefill + timing.decode
    seconds = times.of(trace, call)
    return None if seconds is None else max(0.0, seconds - (timing.queued or 0.0))


def _question(trace: Trace, calls: Sequence[_TimedCall]) -> Question:
    steps: dict[tuple[str, int], list[_TimedCall]] = {}
    for call in calls:
        stage = "draft" if call.stage == "prefetch" else call.stage  # they begin together
        steps.setdefault((stage, call.round), []).append(call)
    names = list(steps)
    drafting = next((place for place, (stage, _) in enumerate(names) if stage in GUIDED), len(names))
    return Question(trace.id, tuple(_step(of_step) for of_step in steps.values()), drafting)


def _step(calls: Iterable[_TimedCall]) -> Step:
    every = list(calls)
    return Step(
        tuple(ClientCall(call.member, call.seconds) for call in every if not call.of_server),
        tuple(call.seconds for call in every if call.of_server),
    )
