"""What happens before an answer, as one text: drafts, guidance and refinements, as they are written.

Members write at the same time, and a text has one place to write to. So one member is shown as it writes, and what the
others write meanwhile follows when it has finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from colm_vl.events import Delta, Event, Note, StageStarted
from colm_vl.types import STAGE_TITLES, Decision, Draft, Failure, Guidance, Refinement, Selection, Trace, Verdict


@dataclass(slots=True)
class _Speech:
    heading: str
    pieces: list[str] = field(default_factory=list)
    written: bool = False
    done: bool = False


@dataclass(frozen=True, slots=True)
class _Speaker:
    member: str
    sample: int = 0


class Narrator:
    def __init__(self) -> None:
        self._speeches: dict[_Speaker, _Speech] = {}
        """Those that are not wholly told, the one that is being told first."""

    def told(self, event: Event) -> str:
        """What the text goes on with after this event; mostly a piece of a reply, often nothing."""
        match event:
            case StageStarted():
                round = f", round {event.round}" if event.round > 1 else ""
                return f"{self.rest()}\n**{STAGE_TITLES[event.stage]}{round}**\n"
            case Delta() if event.stage != "settle":
                speaker = _Speaker(event.member, event.sample)
                speech = self._speeches.setdefault(speaker, _Speech(_heading(speaker)))
                speech.pieces.append(event.text)
                speech.written = True
                return self._next()
            case Draft():
                return self._finished(_Speaker(event.client, event.sample), event.text)
            case Refinement():
                return self._finished(_Speaker(event.client), event.text)
            case Guidance() | Verdict():
                return self._finished(_Speaker(event.server), event.text)
            case Failure():
                return self._finished(_Speaker(event.member or ""), f"no reply ({event.kind})", always=True)
            case Selection() if event.method != "all":
                return self._line(f"Selected: {', '.join(event.clients)}")
            case Decision() if not event.asked:
                return self._line(f"The server was not asked: {event.reason}")
            case Note():
                return self._line(event.text)
            case _:
                return ""

    def rest(self) -> str:
        """What was written and not told yet."""
        for speech in self._speeches.values():
            speech.done = True
        return self._next()

    def _finished(self, speaker: _Speaker, text: str, *, always: bool = False) -> str:
        speech = self._speeches.setdefault(speaker, _Speech(_heading(speaker)))
        if always or not speech.written:  # it was read from a store, or failed
            speech.pieces.append(text)
        speech.done = True
        return self._next()

    def _line(self, text: str) -> str:
        speaker = _Speaker(f"note {len(self._speeches)} {text}")
        self._speeches[speaker] = _Speech("", [text], done=True)
        return self._next()

    def _next(self) -> str:
        told: list[str] = []
        while self._speeches:
            speaker, speech = next(iter(self._speeches.items()))
            if speech.pieces and speech.heading:
                told.append(speech.heading)
                speech.heading = ""
            told += speech.pieces
            speech.pieces.clear()
            if not speech.done:
                break
            told.append("\n")
            del self._speeches[speaker]
        return "".join(told)


def narrated(trace: Trace) -> str:
    """The same text for a question that was answered without a stream."""
    narrator = Narrator()
    pieces = [narrator.told(event) for event in _replayed(trace)]
    return "".join([*pieces, narrator.rest()]).strip()


def _replayed(trace: Trace) -> Iterator[Event]:
    if trace.selection:
        yield trace.selection
    if trace.drafts:
        yield StageStarted("draft", ())
        yield from trace.drafts
    rounds = {said.round for said in trace.guidance} | {reply.round for reply in trace.refinements}
    for round in sorted(rounds):
        if guidance := [said for said in trace.guidance if said.round == round]:
            yield StageStarted("guide", (), round)
            yield from guidance
        if refinements := [reply for reply in trace.refinements if reply.round == round]:
            yield StageStarted("refine", (), round)
            yield from refinements
    if trace.verdict:
        yield StageStarted("verdict", ())
        yield trace.verdict
    yield from (decision for decision in trace.gates if not decision.asked)
    yield from trace.failures
    yield from (Note(text) for text in trace.notes)


def _heading(speaker: _Speaker) -> str:
    return f"{speaker.member}{f' {speaker.sample}' if speaker.sample else ''}: "
