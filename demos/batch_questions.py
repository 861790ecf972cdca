"""A visitor's batch of questions: a JSONL file, or pictures with one question for all of them.

The names of pictures in a visitor's file are looked up among the uploads and never used as paths. Only uploaded
pictures and data URIs are opened.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from colm_vl import ColmError, Image, Query

from .inputs import FieldError, Limits, words

MAX_QUESTIONS = 1000
MAX_FILE_BYTES = 50_000_000


@dataclass(frozen=True, slots=True)
class UploadedQuestion:
    """A question whose pictures are not opened yet; `pictures` are uploaded files or data URIs."""

    id: str
    question: str
    pictures: tuple[Path | str, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(slots=True)
class Questions:
    """Iterates over the questions and opens their pictures when they are needed. `skipped` describes the questions that
    could not be asked."""

    lines: Sequence[UploadedQuestion]
    limits: Limits
    skipped: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.lines)

    def __iter__(self) -> Iterator[Query]:
        for line in self.lines:
            try:
                images = tuple(Image.open(picture, max_pixels=self.limits.pixels) for picture in line.pictures)
                yield Query(line.question, images, line.choices, line.id)
            except ColmError as error:
                self.skipped.append(f"{line.id}: {words(error)}")


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
        raise FieldError("pictures", "Give a JSONL file, or pictures and one question for all of them.")
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
        raise FieldError("pictures", f"At most {MAX_QUESTIONS:,} questions are allowed; there are {count:,}.")


def _read_file(file: Path, uploads: Mapping[str, Path], limits: Limits) -> list[UploadedQuestion]:
    if file.stat().st_size > MAX_FILE_BYTES:
        raise FieldError("pictures", f"The file is larger than {MAX_FILE_BYTES / 1e6:.0f} MB.")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise FieldError("pictures", "The file is not UTF-8 text; JSONL is expected.") from None
    # Not `splitlines`, which also splits at other characters that JSON may contain.
    written = {number: line for number, line in enumerate(text.split("\n"), 1) if line.strip()}
    if not written:
        raise FieldError("pictures", "The file contains no questions.")
    _check_count(len(written))
    lines: dict[str, UploadedQuestion] = {}
    for number, text in written.items():
        line = _read_line(number, text, uploads, limits)
        if line.id in lines:
            raise FieldError("pictures", f"The id “{line.id}” occurs twice in the file.")
        lines[line.id] = line
    return list(lines.values())


def _read_line(number: int, line: str, uploads: Mapping[str, Path], limits: Limits) -> UploadedQuestion:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # also for numbers of thousands of digits and very deep nesting
        raise FieldError("pictures", f"Line {number} is not JSON.") from None
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise FieldError("pictures", f'Line {number} has no "question".')
    given, choices = row.get("images", row.get("image", [])), row.get("choices") or []
    names = [given] if isinstance(given, str) else given or []
    if not isinstance(names, list) or not isinstance(choices, list):
        raise FieldError("pictures", f'Line {number}: "images" and "choices" must be lists.')
    if len(names) > limits.pictures:
        raise FieldError("pictures", f"Line {number} has {len(names)} pictures, more than {limits.pictures}.")
    found = tuple(_find(number, name, uploads) for name in names)
    return UploadedQuestion(
        str(row.get("id", number)), row["question"], found, tuple(str(choice) for choice in choices)
    )


def _find(number: int, name: Any, uploads: Mapping[str, Path]) -> Path | str:
    if isinstance(name, str) and name.startswith("data:image/"):
        return name
    wanted = Path(str(name)).name
    # Gradio removes special characters from the names of uploaded files.
    found = uploads.get(wanted) or uploads.get("".join(char for char in wanted if char.isalnum() or char in "._- "))
    if found is None:
        raise FieldError("pictures", f"Line {number} names the picture “{wanted}”, which was not uploaded.")
    return found
