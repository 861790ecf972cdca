"""Append-only files of JSON lines that survive being killed."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from typing_extensions import override

from colm_vl.errors import OutputError

_CHUNK = 1 << 16
_LISTED = 10  # damaged lines found after a file was opened; the line number of each is counted from the file's start

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Line(NamedTuple):
    """A line, including its line feed, with its number, counted from 1, and its offset in the file."""

    number: int
    offset: int
    data: bytes


class LineReader:
    """The complete lines of a file, to which another process may be appending."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._in = path.open("rb")

    def __iter__(self) -> Iterator[Line]:
        """All lines. Lines may be read or appended during the iteration; appended ones are included."""
        offset = 0
        with self.path.open("rb") as file:
            for number, data in enumerate(iter(file.readline, b""), 1):
                if not data.endswith(b"\n"):
                    return
                yield Line(number, offset, data)
                offset += len(data)

    def read(self, offset: int) -> bytes:
        self._in.seek(offset)
        return self._in.readline()

    def close(self) -> None:
        self._in.close()


class Lines(LineReader):
    """A file to which whole lines are appended, and from which any line can be read.

    If a crash left an incomplete last line, it is removed when the file is opened, and `torn` is True.
    """

    def __init__(self, path: Path) -> None:
        self._end = _whole_length(path)
        self.torn = path.exists() and path.stat().st_size > self._end
        # Unbuffered, so that written lines survive if this process is killed.
        self._out = path.open("ab", buffering=0)
        if self.torn:
            self._out.truncate(self._end)
        self._dirty = False
        super().__init__(path)

    def append(self, data: bytes) -> int:
        """Append a line and return its offset. `data` must end with its only line feed. If writing fails, the file is
        left unchanged and `OutputError` is raised."""
        offset, rest = self._end, memoryview(data)
        try:
            while rest:
                rest = rest[self._out.write(rest) :]
        except OSError as error:
            with suppress(OSError):  # of a disk that fails altogether
                self._out.truncate(offset)
            raise _unwritable(self.path, error) from None
        self._end += len(data)
        self._dirty = True
        return offset

    def number(self, offset: int) -> int:
        """The number of the line at `offset`, counted from 1. Reads the file up to there."""
        return _line_number(self.path, offset)

    def check_place(self) -> None:
        """Raises `OutputError` if the open file is no longer the one at `path`."""
        try:
            found = self.path.stat()
        except OSError:
            found = None
        if found is None or not os.path.samestat(found, os.fstat(self._out.fileno())):
            raise OutputError(
                f"{self.path}: was removed or replaced while the run was using its folder",
                hint="later results are lost; run the same command again to resume from what is left",
            )

    def sync(self) -> None:
        """Flush appended lines to the disk, so that they survive a power failure. Takes milliseconds. Can be called in
        any thread, but must return before the file is closed. Raises `OutputError` if it fails."""
        if self._dirty:
            self._dirty = False
            try:
                os.fsync(self._out.fileno())
            except OSError as error:
                raise _unwritable(self.path, error) from None

    @override
    def close(self) -> None:
        try:
            self.sync()
        finally:
            super().close()
            self._out.close()


class DamageNotes:
    """Notes about the damaged lines of a file: a single one about those found when the file is opened, and one each
    about the first few that are found later.

    `what` is the message about one line, and `what_many` about several, with the fields `count` and `first`.
    """

    def __init__(self, notes: list[str], path: Path, what: str, what_many: str) -> None:
        self._notes = notes
        self._path = path
        self._what = what
        self._what_many = what_many
        self._later = 0

    def opened(self, numbers: Sequence[int]) -> None:
        """Add the note about the lines found when the file was opened, by their numbers."""
        if len(numbers) == 1:
            self._notes.append(f"{self._path.name}, line {numbers[0]}: {self._what}")
        elif numbers:
            said = self._what_many.format(count=f"{len(numbers):,}", first=f" (the first is line {numbers[0]})")
            self._notes.append(f"{self._path.name}: {said}")

    def found(self, offset: int) -> None:
        """Add a note about a line that was found to be damaged when it was read."""
        self._later += 1
        if self._later <= _LISTED:
            self._notes.append(f"{self._path.name}, line {_line_number(self._path, offset)}: {self._what}")
        elif self._later == _LISTED + 1:
            self._notes.append(f"{self._path.name}: further damaged lines are not listed")


def dump(data: Mapping[str, Any]) -> bytes:
    return _encoder.encode(data).encode("utf-8", "backslashreplace") + b"\n"


def replace_file(path: Path, content: Iterable[bytes]) -> None:
    """Replace the file at `path` atomically: a reader sees either the old or the new content."""
    Replacement(path, content).take_place()


class Replacement:
    """New content of the file at `path`, on the disk beside it until it takes the file's place. The file must not be
    open then: Windows does not replace open files. Both steps raise `OutputError`."""

    def __init__(self, path: Path, content: Iterable[bytes]) -> None:
        self._path = path
        # Shards on several machines may write the same file at the same time.
        self._new = path.with_name(f"{path.name}.{platform.node()}-{os.getpid()}.new")
        try:
            with self._new.open("wb") as file:
                file.writelines(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unwritable(path, error) from None

    def take_place(self) -> None:
        try:
            self._new.replace(self._path)
        except OSError as error:
            raise _unwritable(self._path, error) from None


def _line_number(path: Path, offset: int) -> int:
    with path.open("rb") as file:
        return 1 + sum(file.read(min(_CHUNK, offset - start)).count(b"\n") for start in range(0, offset, _CHUNK))


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path}: cannot be written ({error.strerror})",
        hint="fix this, then run the same command again to resume",
    )


def _whole_length(path: Path) -> int:
    """The length of the file up to its last complete line. A power failure can leave a last line of zeros, which is not
    complete."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        while length:
            start = _last_line_start(file, length)
            file.seek(start)
            if _is_json(file.read(length - start)):
                return length
            length = start
    return 0


def _last_line_start(file: Any, end: int) -> int:
    """The start of the last line before `end`. A line feed directly before `end` belongs to that line."""
    position = end - 1
    while position > 0:
        step = min(position, _CHUNK)
        file.seek(position - step)
        found: int = file.read(step).rfind(b"\n")
        if found >= 0:
            return position - step + found + 1
        position -= step
    return 0


def _is_json(line: bytes) -> bool:
    if not line.endswith(b"\n"):
        return False
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
