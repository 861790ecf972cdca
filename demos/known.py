"""The right answer and the choices that belong to one question, and are cleared when it changes."""

from __future__ import annotations

from dataclasses import dataclass

from colm_vl import Image, Query, Trace

from .elements import lettered, tag, text
from .examples import NOTES, Example
from .inputs import read_choices


@dataclass(frozen=True, slots=True)
class Known:
    """`pictures` are digests. `choices` and `truth` are the values of the page's fields, or empty. `note` says what an
    example shows."""

    question: str
    pictures: tuple[str, ...]
    choices: str = ""
    truth: str = ""
    note: str = ""

    @classmethod
    def of_example(cls, example: Example) -> Known:
        pictures = tuple(Image.open(picture).digest for picture in example.pictures)
        note = NOTES[example.kind] if example.kind else ""
        return cls(example.question, pictures, "\n".join(example.choices), example.truth, note)

    @classmethod
    def of_query(cls, query: Query, truth: str) -> Known:
        """For a visitor's own question. The choices are left out: they may be meant for the next question too."""
        return cls(query.question, digests(query), truth=truth)

    @classmethod
    def of_trace(cls, trace: Trace, truth: str, *, with_pictures: bool) -> Known:
        """For a question that was asked before, with its pictures or without."""
        pictures = tuple(image.digest for image in trace.images) if with_pictures else ()
        return cls(trace.question, pictures, "\n".join(trace.choices), truth)

    @property
    def remark(self) -> str:
        """HTML above the answer."""
        return tag("p", text(self.note), "cv-aside") if self.note else ""

    def is_of(self, query: Query) -> bool:
        return (self.question, self.pictures) == (query.question, digests(query))

    def without(self, choices: str, truth: str) -> tuple[str, str]:
        """The two fields for another question: values that belong to this one are cleared, others are kept."""
        return "" if choices == self.choices else choices, "" if truth.strip() == self.truth else truth


def digests(query: Query) -> tuple[str, ...]:
    return tuple(image.digest for image in query.images)


def draw_kept(choices: str, truth: str) -> str:
    """What belongs to the question beside its text, wherever its field is."""
    listed = "  ".join(lettered(read_choices(choices)))
    told = [f"Choices: {listed}" if listed else "", f"Right answer: {truth}" if truth else ""]
    return "".join(tag("p", text(one), "cv-aside", dir="auto") for one in told if one)
