"""The state of one question on the page, built from events as they arrive or from a finished trace."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from colm_vl import (
    ClientReply,
    Decision,
    Delta,
    Draft,
    Event,
    Failure,
    Guidance,
    Image,
    Note,
    Queued,
    Refinement,
    Selection,
    Settlement,
    StageStarted,
    Team,
    Trace,
    Verdict,
    strategies,
)
from colm_vl.answers import Ballot, same, vote
from colm_vl.boxes import Scale, scale_of
from colm_vl.strategies import Strategy
from colm_vl.types import MemberInfo, Stage

THUMBNAIL_PIXELS = 320 * 320
"""Of the pictures in the history, which is kept in the visitor's browser."""
SHOWN_PIXELS = 1024 * 1024
"""Of the pictures beside the answer, which a click enlarges."""
Phase = Literal["waiting", "running", "stopped", "done"]
Mark = Literal["kept", "corrected", "changed", "unread"]


@dataclass(frozen=True, slots=True)
class ReplyKey:
    """Identifies a reply: its stage, member, round and sample."""

    stage: Stage
    member: str
    round: int
    sample: int = 0


@dataclass(frozen=True, slots=True)
class QueuePosition:
    """A place in the waiting line: `ahead` questions come before this one, and `length` are waiting in total."""

    ahead: int
    length: int


@dataclass(frozen=True, slots=True)
class Size:
    """In pixels."""

    width: int
    height: int


_ROUNDS: frozenset[Stage] = frozenset({"guide", "verdict", "refine"})
"""The stages that are repeated in each round."""


@dataclass(slots=True)
class View:
    """The state of one question on the page.

    `truth` is the right answer if the example or the visitor gave one; it is not sent to models. `thumbnails` and the
    larger `pictures` are data URIs. `size` is that of the picture, if there is exactly one, and `scales` the scale of
    the coordinates of each member that gives boxes on it. `settings` are those in force, in words. `writing` holds
    unfinished replies, and `ahead` the number of calls before a member's call in the queue of a service. `line` is
    None unless the question is waiting.
    """

    question: str
    strategy: str
    members: tuple[MemberInfo, ...]
    choices: tuple[str, ...] = ()
    thumbnails: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    size: Size | None = None
    scales: Mapping[str, Scale] = field(default_factory=dict)
    truth: str = ""
    settings: tuple[str, ...] = ()
    phase: Phase = "waiting"
    line: QueuePosition | None = None
    seconds: float = 0.0
    stage: StageStarted | None = None
    writing: dict[ReplyKey, str] = field(default_factory=dict)
    ahead: dict[ReplyKey, int | None] = field(default_factory=dict)
    drafts: dict[str, list[Draft]] = field(default_factory=dict)
    guidance: dict[int, Guidance] = field(default_factory=dict)
    refinements: dict[tuple[int, str], Refinement] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    gates: list[Decision] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    selection: Selection | None = None
    verdict: Verdict | None = None
    settlement: Settlement | None = None
    trace: Trace | None = None

    @classmethod
    def begin(cls, team: Team, strategy: str, question: str, choices: Iterable[str] = ()) -> View:
        return cls(question, strategy, team.infos, tuple(choices))

    @classmethod
    def from_trace(cls, trace: Trace, thumbnails: Iterable[str] = (), truth: str = "") -> View:
        view = cls(trace.question, trace.strategy, trace.members, trace.choices, tuple(thumbnails), truth=truth)
        if len(trace.images) == 1:
            # The settings are not in the trace, so the scale of absolute coordinates is not known.
            view.size = Size(trace.images[0].width, trace.images[0].height)
            known = {member.name: scale_of(member.model) for member in trace.members}
            view.scales = {name: scale for name, scale in known.items() if scale is not None}
        told: list[Event] = [*trace.drafts, *trace.guidance, *trace.refinements, *trace.gates, *trace.failures]
        rare = (trace.selection, trace.verdict, trace.settlement)
        for event in (*told, *(one for one in rare if one is not None)):
            view.take(event)
        view.notes = list(trace.notes)
        view.take(trace)
        return view

    def take(self, event: Event) -> None:
        match event:
            case StageStarted():
                self.stage, self.phase = event, "running"
                self.writing = {ReplyKey(event.stage, name, event.round): "" for name in event.members}
            case Queued():
                self.ahead[ReplyKey(event.stage, event.member, event.round, event.sample)] = event.ahead
            case Delta():
                place = ReplyKey(event.stage, event.member, event.round, event.sample)
                self.writing[place] = self.writing.get(place, "") + event.text
            case Refinement():
                self.refinements[event.round, event.client] = event
                self._finished("refine", event.client, event.round)
            case Draft():
                self.drafts.setdefault(event.client, []).append(event)
                self._finished("draft", event.client, 0, event.sample)
            case Guidance():
                self.guidance[event.round] = event
                self._finished("guide", event.server, event.round)
            case Verdict():
                self.verdict = event
                self.writing = {place: text for place, text in self.writing.items() if place.member != event.server}
            case Failure():
                self.failures.append(event)
                if event.member is not None:
                    self._finished(event.stage, event.member, event.round)
            case Decision():
                self.gates.append(event)
            case Note():
                self.notes.append(event.text)
            case Selection():
                self.selection = event
            case Settlement():
                self.settlement = event
            case Trace():
                self.trace, self.phase, self.seconds, self.writing = event, "done", event.seconds, {}

    def stop(self) -> None:
        """Mark the question as stopped by the visitor. Finished replies are kept."""
        self.phase, self.writing = "stopped", {}

    @property
    def over(self) -> bool:
        return self.phase in ("stopped", "done")

    @property
    def samples(self) -> bool:
        """Whether a client writes several replies at once. Their pieces are interleaved and cannot be displayed."""
        drafts = (draft for of_client in self.drafts.values() for draft in of_client)
        return any(place.sample for place in self.writing) or any(draft.sample for draft in drafts)

    @property
    def server(self) -> MemberInfo | None:
        return next((member for member in self.members if member.role == "server"), None)

    @property
    def server_answers(self) -> bool:
        """Whether the server answers itself instead of writing guidance."""
        return self._strategy.server_answers

    @property
    def clients(self) -> tuple[MemberInfo, ...]:
        """The clients that take part, as far as is known, in the team's order."""
        clients = tuple(member for member in self.members if member.role == "client")
        taking_part = self._taking_part()
        return tuple(client for client in clients if client.name in taking_part) if taking_part is not None else clients

    @property
    def passed_over(self) -> tuple[str, ...]:
        if self.selection is None:
            return ()
        names = (member.name for member in self.members if member.role == "client")
        return tuple(name for name in names if name not in self.selection.clients)

    @property
    def rounds(self) -> range:
        """The rounds that have guidance or refinements, finished or not."""
        reached = [round for round, _ in self.refinements]
        reached += [place.round for place in self.writing if place.stage in _ROUNDS]
        reached += [failure.round for failure in self.failures if failure.stage in _ROUNDS]
        return range(1, max([0, *self.guidance, *reached]) + 1)

    def failure(self, stage: Stage, member: str, round: int = 0) -> Failure | None:
        wanted = (stage, member, round)
        return next((one for one in self.failures if (one.stage, one.member, one.round) == wanted), None)

    def before(self, refinement: Refinement) -> ClientReply | None:
        """The client's reply before this refinement: that of an earlier round, or else its draft."""
        earlier = [self.refinements.get((round, refinement.client)) for round in range(refinement.round - 1, 0, -1)]
        drafts = self.drafts.get(refinement.client, [])
        return next((reply for reply in earlier if reply is not None), drafts[0] if drafts else None)

    @property
    def story(self) -> Mapping[str, Sequence[ClientReply]]:
        """Each client's readable answers in order: its draft and its refinements. Empty for clients that sample."""
        if self.samples:
            return {}
        replies: dict[str, list[ClientReply]] = {name: list(drafts[:1]) for name, drafts in self.drafts.items()}
        for (_, name), refinement in sorted(self.refinements.items(), key=lambda item: item[0][0]):
            replies.setdefault(name, []).append(refinement)
        return {name: [reply for reply in of_client if reply.readable] for name, of_client in replies.items()}

    @property
    def vote_of_drafts(self) -> str:
        """What the drafts alone would have settled on by a vote, or ""."""
        drafts = [draft for of_client in self.drafts.values() for draft in of_client]
        counted = vote(Ballot(draft.client, draft.choice or draft.answer, draft.confidence) for draft in drafts)
        if counted is None:
            return ""
        return next(draft.answer for draft in drafts if (draft.choice or draft.answer) == counted.winner)

    def is_right(self, answer: str) -> bool | None:
        """None if the right answer is not known."""
        return same(answer, self.truth) if self.truth and answer else None

    def mark(self, refinement: Refinement) -> Mark:
        """A change is "corrected" only if the right answer is known and was given."""
        if not refinement.readable:
            return "unread"
        if not refinement.changed:
            return "kept"
        return "corrected" if self.is_right(refinement.answer) else "changed"

    @property
    def _strategy(self) -> Strategy:
        return strategies.find(self.strategy)

    def _finished(self, stage: Stage, member: str, round: int, sample: int = 0) -> None:
        self.writing.pop(ReplyKey(stage, member, round, sample), None)

    def _taking_part(self) -> frozenset[str] | None:
        if self.selection is not None:
            return frozenset(self.selection.clients)
        failed = {failure.member for failure in self.failures if failure.stage == "draft" and failure.member}
        writing = {place.member for place in self.writing if place.stage == "draft"}
        if not self._strategy.needs_clients:
            return frozenset()
        return frozenset({*self.drafts, *failed, *writing}) or None


def thumbnails(images: Iterable[Image], pixels: int = THUMBNAIL_PIXELS) -> tuple[str, ...]:
    """Copies of the pictures with at most that many pixels, as data URIs."""
    return tuple(_small(image, pixels) for image in images)


def _small(image: Image, pixels: int) -> str:
    file = io.BytesIO()
    small = image.thumbnail(pixels).pil()
    # PNG keeps small drawings sharp; photographs are much smaller as JPEG.
    kind = "png" if small.width * small.height <= 128 * 128 else "jpeg"
    small.save(file, kind, quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}"


def calls_avoided(trace: Trace) -> Mapping[str, int]:
    """The number of model calls that were avoided, by reason: a gate skipped the server, clients were not selected, or
    outcomes were reused."""
    gated = sum(1 + len(trace.final) for gate in trace.gates if not gate.asked)
    clients = sum(1 for member in trace.members if member.role == "client")
    passed = clients - len(trace.selection.clients) if trace.selection else 0
    reused = sum(call.reused for call in trace.calls)
    found = {"agreed": gated, "not selected": passed, "reused": reused}
    return {why: count for why, count in found.items() if count}
