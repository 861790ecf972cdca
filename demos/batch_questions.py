"""A visitor's batch of questions: a file as for `colm-vl batch`, or pictures with one question for all of them.

The names of pictures in a visitor's file are looked up among the uploads and never used as paths. Only uploaded
pictures and data URIs are opened.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colm_vl import ColmError, Image, Query
from colm_vl.answers import correct_choice
from colm_vl.batch.questions import Questions as FileOfQuestions
from colm_vl.batch.questions import Row

from .inputs import FieldError, Limits, words

MAX_QUESTIONS = 1000
MAX_FILE_BYTES = 50_000_000
SHOWN_PROBLEMS = 5
PREVIEW_PIXELS = 320 * 320
PREVIEW_BUDGET = 4_000_000
"""Characters of all previews of a batch, which are sent to the browser with its answers."""


@dataclass(frozen=True, slots=True)
class UploadedQuestion:
    """A question whose pictures are not opened yet: uploaded files, data URIs, or bytes in the file of questions.
    `truth` is the right answer, or ""."""

    id: str
    question: str
    pictures: tuple[Path | str | bytes, ...] = ()
    choices: tuple[str, ...] = ()
    truth: str = ""


@dataclass(slots=True)
class Questions:
    """Iterates over the questions and opens their pictures when they are needed. `skipped` describes the questions that
    could not be asked. `previews` are small versions of the opened pictures, as data URIs by their digests, as many as
    fit the budget."""

    lines: Sequence[UploadedQuestion]
    limits: Limits
    skipped: list[str] = field(default_factory=list)
    previews: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def without(self, ids: Collection[str]) -> Questions:
        return Questions([line for line in self.lines if line.id not in ids], self.limits, previews=self.previews)

    @property
    def unopened(self) -> list[Query]:
        """The questions without their pictures, to estimate what they cost."""
        return [Query(line.question, (), line.choices, line.id) for line in self.lines]

    @property
    def truths(self) -> Mapping[str, str]:
        """The right answers that are known, by the questions' ids."""
        return {line.id: line.truth for line in self.lines if line.truth}

    def __iter__(self) -> Iterator[Query]:
        for line in self.lines:
            try:
                images = tuple(Image.open(picture, max_pixels=self.limits.pixels) for picture in line.pictures)
                query = Query(line.question, images, line.choices, line.id)
            except ColmError as error:
                self.skipped.append(f"{line.id}: {words(error)}")
                continue
            self._preview(images)
            yield query

    def _preview(self, images: Iterable[Image]) -> None:
        for image in images:
            if image.digest not in self.previews and sum(map(len, self.previews.values())) < PREVIEW_BUDGET:
                self.previews[image.digest] = image.preview_uri(PREVIEW_PIXELS)


def read_batch(file: str | None, pictures: Sequence[str], question: str, limits: Limits) -> Questions:
    """Raises `FieldError` if something is missing or invalid; the message names the line of the file."""
    uploads = _by_name([Path(picture) for picture in pictures])
    if file:
        lines = _read_file(Path(file), uploads, limits)
    elif uploads and (question or "").strip():
        lines = [UploadedQuestion(name, question.strip(), (path,)) for name, path in sorted(uploads.items())]
    elif uploads:
        raise FieldError("question", "Write the question to ask about every picture.")
    else:
        raise FieldError("file", "Give a file of questions, or pictures and one question for all of them.")
    _check_count(len(lines))
    big = next((path for path in uploads.values() if path.stat().st_size > limits.bytes), None)
    if big is not None:
        raise FieldError("pictures", f"{big.name} is larger than {limits.bytes / 1e6:.0f} MB.")
    return Questions(lines, limits)


def _by_name(pictures: Sequence[Path]) -> dict[str, Path]:
    uploads: dict[str, Path] = {}
    for picture in pictures:
        if picture.name in uploads:
            raise FieldError("pictures", f"Two pictures are called “{picture.name}”; give one of them another name.")
        uploads[picture.name] = picture
    return uploads


def _check_count(count: int) -> None:
    if count > MAX_QUESTIONS:
        raise FieldError("file", f"At most {MAX_QUESTIONS:,} questions are allowed; there are {count:,}.")


def _read_file(file: Path, uploads: Mapping[str, Path], limits: Limits) -> list[UploadedQuestion]:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise FieldError("file", f"The file is larger than {MAX_FILE_BYTES / 1e6:.0f} MB.")
    try:
        rows = list(FileOfQuestions(file).checked())
    except ColmError as error:
        raise FieldError("file", words(error)) from None
    if not rows:
        raise FieldError("file", "The file contains no questions.")
    _check_count(len(rows))
    wrong = [f"{row.where}: {row.problem}" for row in rows if row.problem]
    if wrong:
        more = f" and {len(wrong) - SHOWN_PROBLEMS} more" if len(wrong) > SHOWN_PROBLEMS else ""
        raise FieldError("file", "; ".join(wrong[:SHOWN_PROBLEMS]) + more)
    return [_line(row, uploads, limits) for row in rows]


def _line(row: Row, uploads: Mapping[str, Path], limits: Limits) -> UploadedQuestion:
    if len(row.question) > limits.characters:
        raise FieldError("file", f"{row.where}: a question may have at most {limits.characters:,} characters.")
    if len(row.pictures) > limits.pictures:
        raise FieldError("file", f"{row.where} has {len(row.pictures)} pictures, more than {limits.pictures}.")
    found = tuple(_find(row.where, picture, uploads) for picture in row.pictures)
    return UploadedQuestion(row.id, row.question, found, row.choices, _truth(row))


def _truth(row: Row) -> str:
    """The text of the column `answer`; of a choice, if it is its letter or its index."""
    given = row.metadata.get("answer")
    if given is None or isinstance(given, list | dict | bool):
        return ""
    place = correct_choice(given, row.choices)
    return str(given).strip() if place is None else row.choices[place]


def _find(where: str, name: Any, uploads: Mapping[str, Path]) -> Path | str | bytes:
    if isinstance(name, bytes) or (isinstance(name, str) and name.startswith("data:image/")):
        return name
    wanted = Path(str(name)).name
    # Gradio removes special characters from the names of uploaded files.
    found = uploads.get(wanted) or uploads.get("".join(char for char in wanted if char.isalnum() or char in "._- "))
    if found is None:
        raise FieldError("file", f"{where} names the picture “{wanted}”, which was not uploaded.")
    return found
