"""Append-only files of JSON lines that survive being killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from colm_vl.errors import ColmError

_CHUNK = 1 << 16

_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class Line(NamedTuple):
    """A line, its line feed included, and where it stands in its file."""

    offset: int
    data: bytes


class Lines:
    """A file to which whole lines are appended, and of which any can be read again.

    A last line that a crash left incomplete is removed when the file is opened; `torn` says whether there was one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._end = _whole_length(path)
        self.torn = path.exists() and path.stat().st_size > self._end
        # Unbuffered: a line handed to the system outlives this process, however it dies.
        self._out = path.open("ab", buffering=0)
        if self.torn:
            self._out.truncate(self._end)
        self._in = path.open("rb")
        self._dirty = False

    def __iter__(self) -> Iterator[Line]:
        """All lines. Others may be read or added meanwhile; added ones come too."""
        with self.path.open("rb") as file:
            offset = 0
            for data in file:
                yield Line(offset, data)
                offset += len(data)

    def append(self, data: bytes) -> int:
        """Append a line and return its offset. `data` ends with its only line feed. Raises `ColmError` if it cannot be
        written, and leaves the file as it was."""
        offset, rest = self._end, memoryview(data)
        try:
            while rest:
                rest = rest[self._out.write(rest) :]
        except OSError as error:
            self._out.truncate(offset)
            raise _unwritable(self.path, error) from None
        self._end += len(data)
        self._dirty = True
        return offset

    def read(self, offset: int) -> bytes:
        self._in.seek(offset)
        return self._in.readline()

    def number(self, offset: int) -> int:
        """The number of the line at `offset`, counted from 1."""
        with self.path.open("rb") as file:
            return 1 + sum(file.read(min(_CHUNK, offset - start)).count(b"\n") for start in range(0, offset, _CHUNK))

    def check_place(self) -> None:
        """Raises `ColmError` if the file that is written to is no longer the one at `path`."""
        try:
            found = self.path.stat()
        except OSError:
            found = None
        if found is None or not os.path.samestat(found, os.fstat(self._out.fileno())):
            raise ColmError(
                f"{self.path}: was removed or replaced while the run was working in its folder",
                hint="what was written to it since is lost; the same command goes on from what is left",
            )

    def sync(self) -> None:
        """Flush what was appended to the disk, so that it survives a power cut. Takes milliseconds; may be called in
        any thread, but must return before the file is closed. Raises `ColmError` if the disk fails."""
        if self._dirty:
            self._dirty = False
            try:
                os.fsync(self._out.fileno())
            except OSError as error:
                raise _unwritable(self.path, error) from None

    def close(self) -> None:
        try:
            self.sync()
        finally:
            self._in.close()
            self._out.close()


def dump(data: Mapping[str, Any]) -> bytes:
    return _encoder.encode(data).encode("utf-8", "backslashreplace") + b"\n"


def replace_file(path: Path, content: Iterable[bytes]) -> None:
    """Replace the file at `path` atomically: a reader sees the old content or the new, never a part of it."""
    new = path.with_name(f"{path.name}.new")
    try:
        with new.open("wb") as file:
            file.writelines(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> ColmError:
    return ColmError(
        f"{path}: cannot be written ({error.strerror})",
        hint="fix that and run the same command again: it goes on where it stopped",
    )


def _whole_length(path: Path) -> int:
    """How many bytes of the file are whole lines. A power cut may leave a last line of zeros: it does not count."""
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
    """Where the last line before `end` begins; the line feed at `end` itself does not count."""
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
