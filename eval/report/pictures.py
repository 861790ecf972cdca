"""The pictures in a report, read again from the questions of the run and reduced."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from colm_vl.batch.questions import Questions, Row
from colm_vl.errors import ColmError, ImageError, InputError
from colm_vl.types import Query
from processors.images import Image

from ..dataset import read_json
from ..own_questions import OwnQuestions
from ..run_folder import SOURCE, Evaluation

MAX_PIXELS = 320 * 320
BUDGET = 16_000_000
"""Bytes of all pictures of a report."""


@dataclass(frozen=True, slots=True)
class Found:
    """The pictures by digest, as data URIs. `told` says why some are missing."""

    uris: dict[str, str] = field(default_factory=dict)
    told: tuple[str, ...] = ()


class Pictures:
    """Finds the pictures of questions. `read` yields the questions with these ids, and possibly others; it raises
    `InputError` if they cannot be read."""

    def __init__(self, read: Callable[[Collection[str]], Iterable[Query | Row]]) -> None:
        self._read = read

    @classmethod
    def of_run(cls, evaluation: Evaluation) -> Pictures:
        """From the file or the folder that the run read, if it is still there."""
        return cls(lambda ids: _asked(evaluation, ids))

    def of(self, ids: Collection[str], digests: Collection[str]) -> Found:
        """Those of these questions that have one of these digests: the models saw no others."""
        uris: dict[str, str] = {}
        left: set[str] = set()
        failed, size = "", 0
        try:
            for image in self._open(ids):
                if image.digest not in digests or image.digest in uris or image.digest in left:
                    continue
                uri = image.preview_uri(MAX_PIXELS)
                if size + len(uri) > BUDGET:
                    left.add(image.digest)
                    continue
                uris[image.digest] = uri
                size += len(uri)
        except ColmError as error:
            failed = str(error)
        return Found(uris, tuple(_told(len(digests), len(uris), len(left), failed)))

    def _open(self, ids: Collection[str]) -> Iterator[Image]:
        waiting = set(ids)
        for question in self._read(ids):
            if question.id not in waiting:
                continue
            waiting.remove(question.id)
            for source in question.images if isinstance(question, Query) else question.pictures:
                try:
                    yield Image.open(source, pipes=False)
                except ImageError:
                    continue  # counted as missing
            if not waiting:
                return


def _told(asked: int, found: int, left: int, failed: str) -> Iterator[str]:
    missing = asked - found - left
    if left:
        yield f"{left} pictures are left out: a report holds at most {BUDGET // 1_000_000} MB of them."
    if missing:
        reason = failed or "they are no longer where the run read them, or have changed"
        yield f"{missing} of {asked} pictures are missing: {reason}."


def _asked(evaluation: Evaluation, ids: Collection[str]) -> Iterable[Query | Row]:
    file = evaluation.folder / SOURCE
    if not file.exists():
        raise InputError("the run did not record where they are", hint="run it again with this version")
    record = read_json(file)
    path = Path(record["path"]) if record["path"] else None
    benchmark = evaluation.benchmark
    if isinstance(benchmark, OwnQuestions):
        if path is None:
            raise InputError("the questions were not in a file", hint="write the report where the run was made")
        return Questions(path, columns=record.get("columns"))
    return benchmark.questions(benchmark.source(path, evaluation.split, record["subjects"]), ids)
