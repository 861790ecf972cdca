"""What is known of one question and of no other: its right answer, and the choices that an example brought along."""

from __future__ import annotations

from dataclasses import dataclass

from colm_vl import Image, Query

from .examples import Example


@dataclass(frozen=True, slots=True)
class Known:
    """`pictures` are digests; `choices` and `truth` are as in the page's fields, empty where nothing is known."""

    question: str
    pictures: tuple[str, ...]
    choices: str = ""
    truth: str = ""

    @classmethod
    def of_example(cls, example: Example) -> Known:
        pictures = tuple(Image.open(picture).digest for picture in example.pictures)
        return cls(example.question, pictures, "\n".join(example.choices), example.truth)

    @classmethod
    def of_query(cls, query: Query, truth: str) -> Known:
        """Of a visitor's own question; choices are theirs, and may serve for the next one too."""
        return cls(query.question, digests(query), truth=truth)

    def is_of(self, query: Query) -> bool:
        return (self.question, self.pictures) == (query.question, digests(query))

    def without(self, choices: str, truth: str) -> tuple[str, str]:
        """The two fields for another question: what is known of this one is taken out, anything else stays."""
        return "" if choices == self.choices else choices, "" if truth.strip() == self.truth else truth


def digests(query: Query) -> tuple[str, ...]:
    return tuple(image.digest for image in query.images)
