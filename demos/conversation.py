"""Follow-up questions: the finished question that is shown, and the conversation that it continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from colm_vl import EarlierTurn, Trace

from .elements import clamped, labelled, lettered, tag
from .history import Entry
from .service import Asked


@dataclass(frozen=True, slots=True)
class Shown:
    """The finished question that is displayed. `asked` is None if it was opened from the history, which does not keep
    the files of the pictures."""

    entry: Entry
    asked: Asked | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the next question of a conversation is asked with. All pictures came with its first question.

    `pictures` are the digests of `files`. `earlier` are the ids of the earlier questions in the history.
    """

    turns: tuple[EarlierTurn, ...]
    files: tuple[str, ...] = ()
    pictures: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()

    @classmethod
    def after(cls, shown: Shown) -> Conversation | None:
        """None if the question has no answer, or its pictures are no longer available."""
        trace = shown.entry.trace
        if not trace.answer or (trace.images and shown.asked is None):
            return None
        turns = (*trace.history, *_turns(trace))
        return cls(turns, _files(shown), _digests(trace), (*shown.entry.earlier, shown.entry.id))

    @classmethod
    def before(cls, shown: Shown) -> Conversation | None:
        """The conversation in which the question was asked. None if it was the first."""
        trace = shown.entry.trace
        if not trace.history or (trace.images and shown.asked is None):
            return None
        return cls(trace.history, _files(shown), _digests(trace), shown.entry.earlier)


def draw_earlier(entry: Entry | Conversation | None) -> str:
    """The earlier questions and answers of a conversation, in order, with links that open those of the history."""
    if entry is None:
        return ""
    turns = entry.turns if isinstance(entry, Conversation) else entry.trace.history
    asked = [turn for turn in turns if turn.role == "user"]
    answers = [turn for turn in turns if turn.role == "assistant"]
    ids = [*entry.earlier, *[""] * len(asked)]
    each = [_pair(*pair) for pair in zip(asked, answers, ids, strict=False)]
    return tag("ol", "".join(each), "cv-talk", aria_label="Earlier in this conversation") if each else ""


def invitation(pictures: int) -> str:
    if not pictures:
        return "Ask a follow-up"
    return f"Ask a follow-up about the same picture{'s' if pictures > 1 else ''}"


def _pair(question: EarlierTurn, answer: EarlierTurn, entry: str) -> str:
    label = f"Open: {question.text[:60]}"
    link = tag("a", "open", "cv-open", href=f"#q={entry}", aria_label=label) if entry else ""
    said = tag("div", clamped(question.text), "cv-question", dir="auto")
    return tag("li", said + tag("div", clamped(answer.text) + link, "cv-earlier-answer", dir="auto"))


def _turns(trace: Trace) -> tuple[EarlierTurn, EarlierTurn]:
    before = sum(turn.images for turn in trace.history)
    question = EarlierTurn("user", "\n".join((trace.question, *lettered(trace.choices))), len(trace.images) - before)
    return question, EarlierTurn("assistant", labelled(trace.choice, trace.answer))


def _files(shown: Shown) -> tuple[str, ...]:
    return shown.asked.files if shown.asked else ()


def _digests(trace: Trace) -> tuple[str, ...]:
    return tuple(image.digest for image in trace.images)


__all__: Sequence[str] = ["Conversation", "Shown", "draw_earlier", "invitation"]
