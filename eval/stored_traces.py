"""The traces of a run, read from its file one by one: together they may not fit into memory."""

from __future__ import annotations

import weakref
from array import array
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple, overload

from pydantic import TypeAdapter, ValidationError
from typing_extensions import override

from colm_vl.batch import TRACES
from colm_vl.batch.shards import files as files_of_run
from colm_vl.errors import InputError
from colm_vl.types import Trace


class StoredTraces(Sequence[Trace]):
    """Traces in a file, of which only the places are kept in memory. Each access reads and parses a line."""

    def __init__(self, files: Sequence[_File], places: Iterable[_Place]) -> None:
        self._files = files
        self._places = array("Q", (place.offset * len(files) + place.file for place in places))

    @overload
    def __getitem__(self, index: int) -> Trace: ...
    @overload
    def __getitem__(self, index: slice) -> StoredTraces: ...
    @override
    def __getitem__(self, index: int | slice) -> Trace | StoredTraces:
        if isinstance(index, slice):
            return StoredTraces(self._files, map(self._place, self._places[index]))
        return self._read(self._places[index])

    @override
    def __len__(self) -> int:
        return len(self._places)

    @override
    def __iter__(self) -> Iterator[Trace]:
        return map(self._read, self._places)

    def _read(self, place: int) -> Trace:
        file, offset = self._place(place)
        return self._files[file].read(offset)

    def _place(self, place: int) -> _Place:
        offset, file = divmod(place, len(self._files))
        return _Place(file, offset)


class _Place(NamedTuple):
    file: int
    offset: int


def stored_traces(folder: Path, ids: Collection[str]) -> Mapping[str, StoredTraces]:
    """The traces of these questions by strategy, in the order of `ids`. The last one of a question counts.

    Shards that are not merged yet are read, too. A last line that a run is still writing is ignored. Raises
    `InputError` for a line that is not a trace.
    """
    files = [_File(path) for path in files_of_run(folder, TRACES)]
    found: dict[str, dict[str, _Place]] = {}
    for number, file in enumerate(files):
        for strategy, offsets in file.offsets(frozenset(ids)).items():
            places = found.setdefault(strategy, {})
            for key, offset in offsets.items():
                places.setdefault(key, _Place(number, offset))  # files of newer shards come first
    return {
        strategy: StoredTraces(files, (places[key] for key in ids if key in places))
        for strategy, places in found.items()
    }


class _File:
    """Kept open, so that the offsets stay valid if a run that ends meanwhile replaces the file by a sorted one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] = path.open("rb")
        weakref.finalize(self, self._file.close)

    def offsets(self, ids: Collection[str]) -> Mapping[str, Mapping[str, int]]:
        """The places of these questions by strategy and id."""
        found: dict[str, dict[str, int]] = {}
        offset = 0
        for number, line in enumerate(self._file, 1):
            if line.endswith(b"\n"):
                head = _head(self._path, number, line)
                if head.id in ids:
                    found.setdefault(head.strategy, {})[head.id] = offset
            offset += len(line)
        return found

    def read(self, offset: int) -> Trace:
        self._file.seek(offset)
        try:
            return Trace.from_json(self._file.readline())
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
