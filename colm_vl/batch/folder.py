"""The output folder of a batch: its settings, calls, traces, answers, and a lock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from itertools import starmap, zip_longest
from pathlib import Path
from typing import Any

from colm_vl.batch import settings as records
from colm_vl.batch.heads import UNREADABLE, Key, OtherTraces, check_version, read_head
from colm_vl.batch.journal import Journal
from colm_vl.batch.lines import DamageNotes, LineReader, Lines, Replacement, dump, replace_file
from colm_vl.batch.locking import locked
from colm_vl.batch.questions import Row
from colm_vl.batch.settings import Settings, difference
from colm_vl.batch.shards import (
    RECORD,
    Progress,
    Shard,
    check_no_shard_runs,
    check_other_shards,
    files,
    lock_shards,
    shard_folders,
)
from colm_vl.errors import InputError
from colm_vl.types import Trace

RUN, CALLS, TRACES, ANSWERS = "run.json", "calls.jsonl", "traces.jsonl", "answers.jsonl"
_PATIENCE = 10.0
"""Seconds for which a shard waits for others that are being opened."""
_GLANCE = 1.0


def _place(offset: int, answered: bool) -> int:
    """Where a trace is in the file, and whether it has an answer. One integer, which the garbage collector need not
    look at: there may be a million."""
    return offset << 1 | answered


def _answered(place: int) -> bool:
    return bool(place & 1)


def _offset(place: int) -> int:
    return place >> 1


class Folder:
    """The folder of a batch, locked while it is open. `notes` are messages for the user about the folder's content.

    Traces are appended as questions are finished. A later trace replaces an earlier one with the same key. `close`
    sorts the files by the order of the questions and leaves one line for each key.

    A shard writes to files of its own, in `shards/INDEX-of-COUNT`, and reads those of the other shards and of earlier
    runs. A run that is not a shard moves the content of all shards to its own files first.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        *,
        fresh: bool = False,
        notes: list[str] | None = None,
        shard: Shard | None = None,
    ) -> None:
        """Raises `InputError` if another run uses the folder, or if it was made with other settings or a newer version.

        Messages can be appended to `notes` at any time, since damaged lines are found when they are read.
        """
        self.path = path
        self.notes = [] if notes is None else notes
        self._own = path / shard.folder if shard else path
        try:
            with ExitStack() as stack:
                self._own.mkdir(parents=True, exist_ok=True)
                # A shard that starts looks for a moment whether others are locked.
                stack.enter_context(locked(self._own, patience=_GLANCE if shard else 0.0))
                if shard is None:
                    lock_shards(path, stack)
                    self._check_earlier_run(settings, fresh)
                else:
                    with locked(path, patience=_PATIENCE):
                        check_other_shards(path, shard)
                        self._check_earlier_run(settings, fresh)
                self.journal = Journal(self._own / CALLS, self.notes, self._of_others(CALLS))
                stack.callback(self.journal.close)
                self._others = OtherTraces(self._of_others(TRACES))
                stack.callback(self._others.close)
                self._open_files()
                self._stack = stack.pop_all()
        except OSError as error:
            raise InputError(f"{path}: cannot be used ({error.strerror})", hint="choose another folder") from None

    def __len__(self) -> int:
        return len(self._places)

    @property
    def keys(self) -> Sequence[Key]:
        """In the order of the file. Without those of other shards."""
        return list(self._places)

    @property
    def answered(self) -> int:
        """The number of answered questions, once for each strategy. Without those of other shards."""
        return sum(map(_answered, self._places.values()))

    def finished(self, row: Row, strategy: str) -> Trace | None:
        """The trace of the row's question, if it was answered and the question has not changed."""
        key = Key(row.id, strategy)
        place = self._places.get(key)
        trace = self._sound(key) if place is not None and _answered(place) else None
        if trace is None or not row.is_of(trace):
            trace = self._others.find(key)
        return trace if trace is not None and row.is_of(trace) else None

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def trace(self, key: Key) -> Trace:
        """The latest trace, with or without an answer."""
        if key not in self._places and (trace := self._others.find(key)) is not None:
            return trace
        return self._read(self._places[key])

    def record(self, trace: Trace) -> None:
        key = Key(trace.id, trace.strategy)
        self._superseded |= self._places.pop(key, None) is not None
        self._places[key] = _place(self._traces.append(dump(trace.to_dict())), trace.settlement is not None)
        self._answers.append(_answer_line(trace))

    def sync(self) -> None:
        """Like `Lines.sync`, for all files. Also raises `OutputError` if a file was removed or replaced."""
        self.journal.sync()
        self._traces.sync()
        self._check_place()

    def _check_place(self) -> None:
        for file in (self.journal, self._traces, self._answers):
            file.check_place()

    def close(self, order: Sequence[Key] = (), *, complete: bool = False, progress: Progress | None = None) -> None:
        """Sort the files by `order`, followed by all other traces, and release the lock.

        `complete`: `order` contains all questions. Unanswered traces of other questions are then removed; an example is
        a row that could not be read and was corrected before this run. `progress` is written for the merge of shards.
        Raises `OutputError` like `sync`.
        """
        with self._stack, ExitStack() as files:
            files.callback(self._close_files)
            self._check_place()
            known = set(order)
            others = [
                key for key, place in self._places.items() if key not in known and (_answered(place) or not complete)
            ]
            self._arrange([*(key for key in order if key in self._places), *others])
            if progress is not None:
                progress.write(self._own)

    # --- content of an earlier run ---

    def _check_earlier_run(self, settings: Settings, fresh: bool) -> None:
        before = read_record(self.path / RUN)
        if fresh:
            self._move_aside((TRACES, ANSWERS, CALLS, RECORD, RUN), "--fresh: the earlier content")
        elif before is not None:
            self._check_settings(before, settings)
        record = json.dumps(settings.record, ensure_ascii=False, indent=2).encode() + b"\n"
        if not (self.path / RUN).exists() or (self.path / RUN).read_bytes() != record:
            replace_file(self.path / RUN, [record])

    def _check_settings(self, before: Mapping[str, Any], settings: Settings) -> None:
        differences = difference(before, settings.record)
        if differences.others:
            raise InputError(
                f"{self.path} was made with other settings: {'; '.join(differences.others)}",
                hint="--fresh (fresh=True) moves the content aside and starts over; or choose another folder",
            )
        if differences.answers:
            if self._own != self.path:
                check_no_shard_runs(self.path, self._own, "; ".join(differences.answers))
            # Unaffected calls are reused: they stay in calls.jsonl.
            self._move_aside((TRACES, ANSWERS, RUN), f"changed: {'; '.join(differences.answers)}; earlier answers")

    def _move_aside(self, names: Sequence[str], what: str) -> None:
        present = [path for name in names for path in files(self.path, name)]
        if not present:
            return
        number = 1
        while (beside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        for path in present:
            target = beside / path.relative_to(self.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(path, target)
        self.notes.append(f"{what} moved to {beside}")

    # --- shards ---

    def _absorb_shards(self) -> None:
        """Move the content of all shards to the files of the run. If this is interrupted, it can be repeated."""
        for leftover in self.path.glob("*.new"):  # of a process that was killed; all others are locked out
            leftover.unlink(missing_ok=True)
        folders = shard_folders(self.path)
        if not _present(folders, CALLS) and not _present(folders, TRACES):
            return
        progress = Progress.read(self.path)
        for folder in folders:
            self.take_in(folder)
            progress |= Progress.read(folder)
        self._arrange(list(self._places))
        self.journal.sync()
        progress.write(self.path)
        for folder in folders:
            for name in (CALLS, TRACES, ANSWERS, RECORD):
                (folder / name).unlink(missing_ok=True)

    def _of_others(self, name: str) -> list[Path]:
        """For a shard, the files of other shards and of the run. A run takes its shards' content in instead."""
        if self._own == self.path:
            return []
        return [file for file in files(self.path, name) if file.parent != self._own]

    def take_in(self, folder: Path) -> None:
        """Append the calls and traces of another folder. Its answers replace those of this folder."""
        for path in _present([folder], CALLS):
            self.journal.take_in(path)
        for path in _present([folder], TRACES):
            reader = LineReader(path)
            with closing(reader):
                for number, _, line in reader:
                    head = read_head(line)
                    if head is None:
                        continue  # its question is asked again
                    check_version(head, path, number)
                    before = self._places.get(head.key)
                    if before is None or head.answered or not _answered(before):
                        self._places.pop(head.key, None)
                        self._places[head.key] = _place(self._traces.append(line), head.answered)
                        self._superseded = True

    # --- traces and answers ---

    def _open_files(self) -> None:
        self._traces = Lines(self._own / TRACES)
        self._answers = Lines(self._own / ANSWERS)
        self._damage = DamageNotes(
            self.notes,
            self._own / TRACES,
            "dropped a damaged line; its question is asked again",
            "dropped {count} damaged lines{first}; their questions are asked again",
        )
        try:
            self._read_files()
            if self._own == self.path:
                self._absorb_shards()
        except BaseException:
            self._close_files()
            raise

    def _read_files(self) -> None:
        torn = {CALLS: self.journal.torn, TRACES: self._traces.torn, ANSWERS: self._answers.torn}
        self.notes += [f"{name}: removed an incomplete last line" for name, was in torn.items() if was]
        self._places: dict[Key, int] = {}
        self._superseded = False
        damaged, path = list[int](), self._own / TRACES
        for number, offset, line in self._traces:
            found = read_head(line)
            if found is None:
                damaged.append(number)
                continue
            check_version(found, path, number)
            self._superseded |= self._places.pop(found.key, None) is not None
            self._places[found.key] = _place(offset, found.answered)
        self._damage.opened(damaged)
        self._superseded |= bool(damaged)
        # The two files differ if a run was killed after writing only one of them.
        lines = (line.data for line in self._answers)
        self._superseded |= not all(starmap(_is_answer_to, zip_longest(lines, self._places)))
        self._arrange(list(self._places))

    def _close_files(self) -> None:
        try:
            self._traces.close()
        finally:
            self._answers.close()

    def _arrange(self, order: Sequence[Key]) -> None:
        if not self._superseded and order == list(self._places):
            return
        sound: list[Key] = []
        answers = Replacement(self._own / ANSWERS, self._answers_in(order, sound))
        traces = Replacement(self._own / TRACES, (self._traces.read(_offset(self._places[key])) for key in sound))
        self._close_files()
        answers.take_place()
        traces.take_place()
        self._traces, self._answers = Lines(self._own / TRACES), Lines(self._own / ANSWERS)
        self._superseded = False
        lines = zip(sound, self._traces, strict=True)
        self._places = {key: _place(line.offset, _answered(self._places[key])) for key, line in lines}

    def _answers_in(self, order: Sequence[Key], sound: list[Key]) -> Iterator[bytes]:
        """The lines of answers; appends the keys of readable traces to `sound`."""
        for key in order:
            trace = self._sound(key)
            if trace is not None:
                sound.append(key)
                yield _answer_line(trace)

    def _sound(self, key: Key) -> Trace | None:
        """The trace, or None if its line is damaged; the line is then dropped with a note."""
        place = self._places[key]
        try:
            return self._read(place)
        except InputError:
            del self._places[key]
            self._superseded = True
            self._damage.found(_offset(place))
            return None

    def _read(self, place: int) -> Trace:
        return Trace.from_json(self._traces.read(_offset(place)))


def answered_in(path: Path) -> int:
    """The number of answers in the folder and its shards, without incomplete and damaged lines. Does not lock or change
    the folder."""
    answered: dict[Key, bool] = {}
    for traces in files(path, TRACES):
        with closing(LineReader(traces)) as lines:
            heads = (read_head(line.data) for line in lines)
            answered |= {head.key: head.answered or answered.get(head.key, False) for head in heads if head}
    return sum(answered.values())


def _present(folders: Sequence[Path], name: str) -> list[Path]:
    return [path for folder in folders if (path := folder / name).exists()]


def _answer_line(trace: Trace) -> bytes:
    error = None
    if trace.settlement is None:
        error = "; ".join(dict.fromkeys(failure.message for failure in trace.failures))
        error = error or "no reply could be read"
    return dump(
        {
            "id": trace.id,
            "strategy": trace.strategy,
            "answer": trace.answer,
            "choice": trace.choice,
            "clients": {client: reply.answer for client, reply in trace.final.items()},
            "degraded": trace.degraded,
            "error": error,
        }
    )


def _is_answer_to(line: bytes | None, key: Key | None) -> bool:
    """Whether this is the undamaged line of answers of that trace."""
    if line is None or key is None:
        return False
    try:
        found = json.loads(line)
        return (found["id"], found["strategy"]) == key
    except UNREADABLE:
        return False


def read_record(path: Path) -> Mapping[str, Any] | None:
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        record = None
    if not isinstance(record, dict) or not isinstance(record.get("settings"), dict):
        raise InputError(f"{path}: is not the record of a run", hint="--fresh (fresh=True) starts over")
    if record.get("schema_version", 1) != records.SCHEMA_VERSION:
        raise InputError(
            f"{path}: has format {record['schema_version']!r}, expected {records.SCHEMA_VERSION}",
            hint="resume with the version of colm-vl that wrote it",
        )
    return record
