"""Shards: parts of a batch that run at the same time, on any machines, with one output folder or several.

Each question belongs to one shard by its content: its text, choices, earlier turns and pictures. Its place in the file
does not matter, so a row that is added moves no other to another shard, and equal questions, which share calls, are in
the same one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from colm_vl.batch.lines import replace_file
from colm_vl.batch.locking import is_locked, locked
from colm_vl.errors import InputError
from processors.images import Image, ImageSource
from processors.sources import is_path

if TYPE_CHECKING:
    from colm_vl.batch.questions import Row

FOLDER = "shards"
"""The folder below a run folder that has one folder for each shard."""
RECORD = "questions.json"
"""The questions that a shard has read, or, in the run folder, those of all shards that were merged."""
_MAX = 100_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of `count` shards. `index` counts from 1."""

    index: int
    count: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read "3/16". Raises `InputError`."""
        found = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
        if not found:
            raise InputError(f"the shard is {text!r}, expected INDEX/COUNT", hint="such as 3/16, the third of sixteen")
        index, count = int(found[1]), int(found[2])
        if not 1 <= index <= count <= _MAX:
            raise InputError(
                f"there is no shard {index}/{count}", hint=f"the shards of {count or 1} are 1/{count or 1} to "
                f"{count or 1}/{count or 1}; some schedulers count from 0",
            )  # fmt: skip
        return cls(index, count)

    @override
    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    @property
    def folder(self) -> Path:
        """Its folder, relative to the run folder."""
        return Path(FOLDER) / f"{self.index:0{len(str(self.count))}}-of-{self.count}"

    @classmethod
    def of_folder(cls, folder: Path) -> Shard:
        index, _, count = folder.name.partition("-of-")
        return cls.read(f"{index}/{count}")

    def holds(self, row: Row, folder: Path | None = None) -> bool:
        """Whether the question is in this shard. `folder` is that of the file from which it was read."""
        return content_digest(row, folder) % self.count == self.index - 1


def shard_folders(run: Path) -> list[Path]:
    """The folders of the shards in a run folder, those written last at the end."""
    found = [path for path in (run / FOLDER).glob("*-of-*") if re.fullmatch(r"\d+-of-\d+", path.name)]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))


def files(run: Path, name: str) -> list[Path]:
    """The files of this name in the folders of the shards, those written last first, and in the run folder.

    The run folder comes last: the content of shards that are merged meanwhile is then found at least once.
    """
    return [path for folder in (*reversed(shard_folders(run)), run) if (path := folder / name).exists()]


def lock_shards(run: Path, stack: ExitStack) -> None:
    """Lock all shards of a run until `stack` is closed. Raises `InputError` if one is under way."""
    for folder in shard_folders(run):
        try:
            stack.enter_context(locked(folder))
        except InputError:
            raise _under_way(folder, "wait until it ends") from None


def check_other_shards(run: Path, shard: Shard) -> None:
    """Raises `InputError` if shards of another number are under way: they would answer some of the same questions."""
    for folder in shard_folders(run):
        if Shard.of_folder(folder).count != shard.count and is_locked(folder):
            raise _under_way(folder, f"wait until all of its {Shard.of_folder(folder).count} shards end")


def check_no_shard_runs(run: Path, own: Path, changes: str) -> None:
    """Raises `InputError` if other shards are under way, with settings that have changed."""
    for folder in shard_folders(run):
        if folder != own and is_locked(folder):
            raise _under_way(folder, "wait until it ends, or give all shards the same settings", changes)


def _under_way(folder: Path, hint: str, changes: str = "") -> InputError:
    settings = f" with other settings: {changes}" if changes else ""
    return InputError(f"shard {Shard.of_folder(folder)} of {folder.parents[1]} is running{settings}", hint=hint)


@dataclass(frozen=True, slots=True)
class Progress:
    """Which questions the shards of a run have read. `places` maps ids to places in the source, from 1. `total` is the
    number of questions of the source, 0 if unknown. `finished` are shards that came to the end of the source."""

    places: Mapping[str, int] = field(default_factory=dict)
    total: int = 0
    finished: frozenset[Shard] = frozenset()

    @classmethod
    def read(cls, folder: Path) -> Progress:
        """Empty if there is none, or if it is damaged: it only decides the order of answers and what is reported."""
        try:
            data: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
            return cls(data["places"], data["total"], frozenset(map(Shard.read, data["finished"])))
        except (OSError, ValueError, LookupError, TypeError, InputError):
            return cls()

    def write(self, folder: Path) -> None:
        finished = sorted(self.finished, key=lambda shard: (shard.count, shard.index))
        data = {"total": self.total, "finished": list(map(str, finished)), "places": dict(self.places)}
        replace_file(folder / RECORD, [json.dumps(data, ensure_ascii=False).encode("utf-8", "backslashreplace")])

    def __or__(self, newer: Progress) -> Progress:
        return Progress({**self.places, **newer.places}, newer.total or self.total, self.finished | newer.finished)

    @property
    def unfinished(self) -> list[Shard]:
        """Shards that are known to be missing: no number of shards is complete, and these lack to the largest."""
        by_count: dict[int, set[int]] = {}
        for shard in self.finished:
            by_count.setdefault(shard.count, set()).add(shard.index)
        missing = [
            [Shard(index, count) for index in range(1, count + 1) if index not in done]
            for count, done in by_count.items()
        ]
        return min(missing, key=len, default=[])


def content_digest(row: Row, folder: Path | None = None) -> int:
    """64 bits that identify the content of a question. Paths of pictures are relative to `folder`."""
    turns = [[turn.role, turn.text, turn.images] for turn in row.history]
    pictures = [_identity(picture, folder) for picture in row.pictures]
    content: list[Any] = [row.question, row.choices, turns, pictures]
    if row.problem:  # it may have no content at all
        content.append(row.id)
    return int.from_bytes(hashlib.sha256(json.dumps(content).encode()).digest()[:8], "big")


def _identity(picture: ImageSource, folder: Path | None) -> str:
    """What is known of a picture without opening it. A path counts as written in the file, so that all machines agree
    even if the file is at another place on each."""
    if isinstance(picture, str) and not is_path(picture):
        return picture
    if isinstance(picture, str | os.PathLike):
        path = Path(picture).absolute()
        base = folder.absolute() if folder is not None else None
        return (path.relative_to(base) if base and path.is_relative_to(base) else path).as_posix()
    if isinstance(picture, bytes | bytearray | memoryview):
        return hashlib.sha256(picture).hexdigest()
    return Image.open(picture).digest
