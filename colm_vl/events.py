"""Events of `CoLM.stream`. The last one of a question is its `Trace`."""

from __future__ import annotations

from dataclasses import dataclass

from colm_vl.types import (
    Call,
    Decision,
    Draft,
    Failure,
    Guidance,
    Late,
    Refinement,
    Selection,
    Settlement,
    Stage,
    Trace,
    Verdict,
)


@dataclass(frozen=True, slots=True)
class StageStarted:
    stage: Stage
    members: tuple[str, ...]
    round: int = 0


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply as it is written. `sample` as in `Draft`."""

    stage: Stage
    member: str
    text: str
    round: int = 0
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Queued:
    """A call waits in the queue of a service. `ahead` is the number of calls that will be served before it, or None
    once it no longer waits."""

    stage: Stage
    member: str
    ahead: int | None
    round: int = 0
    sample: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """Information for the user, such as a fallback, a dropped name, or that only an animation's first frame is used."""

    text: str


Event = (
    StageStarted
    | Queued
    | Delta
    | Selection
    | Draft
    | Guidance
    | Refinement
    | Verdict
    | Decision
    | Call
    | Failure
    | Late
    | Settlement
    | Note
    | Trace
)
