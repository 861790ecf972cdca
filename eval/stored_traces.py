"""The traces of a run, read from its file one by one: together they may not fit into memory."""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, overload

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from typing_extensions import override

from colm_vl.errors import InputError
from colm_vl.types import Trace


class StoredTraces(Sequence[Trace]):
    """Traces in a file, of which only the places are kept in memory. Each access reads and parses a line."""

    def __init__(self, file: _File, offsets: Sequence[int]) -> None:
        self._file = file
        self._offsets = array("Q", offsets)

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> StoredTraces: ...
    @override
    def __getitem__(self, index: int | slice) -> Trace | StoredTraces:
        if isinstance(index, slice):
            return StoredTraces(self._file, self._offsets[index])
        return self._file.read(self._offsets[index])

    @override
    def __len__(self) -> int:
        return len(self._offsets)

    @override
    def __iter__(self) -> Iterator[Trace]:
        return map(self._file.read, self._offsets)


def stored_traces(path: Path, ids: Collection[str]) -> Mapping[str, StoredTraces]:
    """The traces of these questions by strategy, in the order of `ids`. The last one of a question counts.

    A last line that a run is still writing is ignored. Raises `InputError` for a line that is not a trace.
    """
    if not path.exists():
        return {}
    known = frozenset(ids)
    found: dict[str, dict[str, int]] = {}
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.endswith(b"\n"):
                head = _head(path, number, line)
                if head.id in known:
                    found.setdefault(head.strategy, {})[head.id] = offset
            offset += len(line)
    file = _File(path)
    return {
        strategy: StoredTraces(file, [offsets[key] for key in ids if key in offsets])
        for strategy, offsets in found.items()
    }


class _File:
    """Kept open, so that the offsets stay valid if a run that ends meanwhile replaces the file by a sorted one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("rb")
        weakref.finalize(self, self._file.close)

    def read(self, offset: int) -> Trace:
        self._file.seek(offset)
        try:
            return Trace.from_dict(from_json(self._file.readline()))
        except InputError as error:
            raise InputError(f"{self._path}: {error}", hint=error.hint) from None


@dataclass(frozen=True, slots=True)
class _Head:
    id: str
    strategy: str


def _head(path: Path, number: int, line: bytes) -> _Head:
    try:
        return _head_adapter().validate_json(line)
    except ValidationError:
        raise InputError(f"{path}, line {number}: not a trace", hint="remove this line, or run it again") from None


@cache
def _head_adapter() -> TypeAdapter[_Head]:
    return TypeAdapter(_Head)
