"""Joins the answers of shards."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from colm_vl.batch.folder import RUN, Folder, read_record
from colm_vl.batch.heads import Key
from colm_vl.batch.locking import locked
from colm_vl.batch.settings import Settings, difference
from colm_vl.batch.shards import Progress, lock_shards, shard_folders
from colm_vl.errors import InputError


@dataclass(frozen=True, slots=True)
class MergedShards:
    """The content of a folder after a merge. A question counts once for each strategy in `answered` and `failed`.

    `missing` is the number of questions that no shard has read yet, None if no shard has come to the end of the
    questions. `unfinished` are the shards that have not. `notes` are messages for the user.
    """

    folder: Path
    answered: int
    failed: int
    missing: int | None
    unfinished: Sequence[str]
    notes: Sequence[str]

    @property
    def complete(self) -> bool:
        """Whether all questions are answered."""
        return not self.failed and self.missing == 0


def merge_shards(folder: str | os.PathLike[str], *others: str | os.PathLike[str]) -> MergedShards:
    """Move the calls, traces and answers of all shards in a run folder to its files, in the order of the questions.

    The content of `others`, run folders of shards that had no folder in common, is copied to the first one. The merge
    can be repeated: after an interruption, or when further shards have ended.

    Raises `InputError` if a shard is still running, or if the folders were made with different settings.
    """
    first, *further = [Path(one) for one in (folder, *others)]
    settings, notes = _settings(first), list[str]()
    with ExitStack() as stack:
        for other in further:
            _check_same(first, settings, other)
            stack.enter_context(locked(other))
            lock_shards(other, stack)
        run = Folder(first, settings, notes=notes)
        progress, order = Progress(), list[Key]()
        try:
            for other in further:
                for part in (other, *shard_folders(other)):
                    run.take_in(part)
                    progress |= Progress.read(part)
            progress = Progress.read(first) | progress
            places = progress.places
            order = sorted(run.keys, key=lambda key: places.get(key.id, len(places) + progress.total))
        finally:
            run.close(order, progress=progress)
        answered = run.answered
    return MergedShards(
        first,
        answered,
        len(order) - answered,
        max(0, progress.total - len(places)) if progress.total else None,
        [str(shard) for shard in progress.unfinished],
        notes,
    )


def _settings(folder: Path) -> Settings:
    record = read_record(folder / RUN)
    if record is None:
        raise InputError(f"{folder}: no run in this folder", hint="name the folder that --out of the shards named")
    return Settings(record)


def _check_same(first: Path, settings: Settings, other: Path) -> None:
    found = difference(settings.record, _settings(other).record)
    if changes := (*found.answers, *found.others):
        raise InputError(
            f"{other} was made with other settings than {first}: {'; '.join(changes)}",
            hint="merge only shards of the same run",
        )
