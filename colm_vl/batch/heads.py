"""What identifies the lines of traces and answers, and the traces of other shards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import NamedTuple, NotRequired

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from colm_vl._trace_schema import SCHEMA_VERSION
from colm_vl.batch.lines import LineReader
from colm_vl.errors import InputError
from colm_vl.types import Trace

UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # what damaged JSON may raise


class Key(NamedTuple):
    """Identifies a trace: there is one for each question and strategy."""

    id: str
    strategy: str


class Head(NamedTuple):
    """The identifying fields of a line of traces or answers. Lines of answers have no version."""

    key: Key
    answered: bool
    version: int


def read_head(line: bytes) -> Head | None:
    """None for a damaged line."""
    try:
        # Skips the values that are not needed, which is five times as fast as `json.loads`.
        found = _fields().validate_json(line, strict=True)
    except ValidationError:
        return _head_of_unusual(line)
    return Head(
        Key(found["id"], found["strategy"]), found.get("settlement") is not None, found.get("schema_version", 1)
    )


class _Settlement(TypedDict):
    pass


class _Fields(TypedDict):
    id: str
    strategy: str
    settlement: NotRequired[_Settlement | None]
    schema_version: NotRequired[int]


@cache
def _fields() -> TypeAdapter[_Fields]:
    return TypeAdapter(_Fields)


def _head_of_unusual(line: bytes) -> Head | None:
    try:
        data = json.loads(line)
        id_, strategy, version = data["id"], data["strategy"], data.get("schema_version", 1)
        answered = data.get("settlement") is not None
    except UNREADABLE:
        return None
    if not isinstance(id_, str) or not isinstance(strategy, str) or not isinstance(version, int):
        return None
    return Head(Key(id_, strategy), answered, version)


def check_version(head: Head, path: Path, number: int) -> None:
    if head.version > SCHEMA_VERSION:
        raise InputError(
            f"{path}, line {number}: has format {head.version}, expected {SCHEMA_VERSION}",
            hint="resume with the version of colm-vl that wrote it",
        )


class OtherTraces:
    """The answers in the files of other shards, which may be under way. Only their places are kept in memory."""

    def __init__(self, paths: Sequence[Path]) -> None:
        """If several have an answer to a question, that of the first file counts."""
        self._files: list[LineReader] = []
        self._places: dict[Key, tuple[int, int]] = {}
        try:
            for index, path in enumerate(paths):
                self._files.append(LineReader(path))
                places: dict[Key, tuple[int, int]] = {}
                for number, offset, line in self._files[-1]:
                    head = read_head(line)
                    if head is not None and head.answered:
                        check_version(head, path, number)
                        places[head.key] = (index, offset)
                self._places = places | self._places
        except BaseException:
            self.close()
            raise

    def find(self, key: Key) -> Trace | None:
        """None also if the line is damaged: the question is then asked again."""
        if (place := self._places.get(key)) is None:
            return None
        index, offset = place
        try:
            return Trace.from_json(self._files[index].read(offset))
        except InputError:
            return None

    def close(self) -> None:
        with ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)
