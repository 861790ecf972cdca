"""The output folder of a batch: its settings, calls, traces, answers, and a lock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from colm_vl._trace_schema import SCHEMA_VERSION
from colm_vl.batch import settings as records
from colm_vl.batch.journal import Journal
from colm_vl.batch.lines import DamageNotes, Lines, dump, replace_file
from colm_vl.batch.locking import locked
from colm_vl.batch.questions import Row
from colm_vl.batch.settings import Settings, difference
from colm_vl.errors import InputError
from colm_vl.types import Trace

RUN, CALLS, TRACES, ANSWERS = "run.json", "calls.jsonl", "traces.jsonl", "answers.jsonl"
_UNREADABLE = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # what damaged JSON may raise


class Key(NamedTuple):
    """Identifies a trace: there is one for each question and strategy."""

    id: str
    strategy: str


@dataclass(frozen=True, slots=True)
class _Place:
    offset: int
    answered: bool


class _Head(NamedTuple):
    """The identifying fields of a line of traces or answers. Lines of answers have no version."""

    key: Key
    answered: bool
    version: int


class Folder:
    """The folder of a batch, locked while it is open. `notes` are messages for the user about the folder's content.

    Traces are appended as questions are finished. A later trace replaces an earlier one with the same key. `close`
    sorts the files by the order of the questions and leaves one line for each key.
    """

    def __init__(self, path: Path, settings: Settings, *, fresh: bool = False, notes: list[str] | None = None) -> None:
        """Raises `InputError` if another run uses the folder, or if it was made with other settings or a newer version.

        Messages can be appended to `notes` at any time, since damaged lines are found when they are read.
        """
        self.path = path
        self.notes = [] if notes is None else notes
        try:
            with ExitStack() as stack:
                path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(path))
                self._check_earlier_run(settings, fresh)
                replace_file(path / RUN, [json.dumps(settings.record, ensure_ascii=False, indent=2).encode() + b"\n"])
                self.journal = Journal(path / CALLS, self.notes)
                stack.callback(self.journal.close)
                self._open_files()
                self._stack = stack.pop_all()
        except OSError as error:
            raise InputError(f"{path}: cannot be used ({error.strerror})", hint="choose another folder") from None

    def __len__(self) -> int:
        return len(self._places)

    def finished(self, row: Row, strategy: str) -> Trace | None:
        """The trace of the row's question, if it was answered and the question has not changed."""
        key = Key(row.id, strategy)
        place = self._places.get(key)
        if place is None or not place.answered:
            return None
        trace = self._sound(key)
        return trace if trace is not None and row.is_of(trace) else None

    def __contains__(self, key: Key) -> bool:
        return key in self._places

    def trace(self, key: Key) -> Trace:
        """The latest trace, with or without an answer."""
        return self._read(self._places[key])

    def record(self, trace: Trace) -> None:
        key = Key(trace.id, trace.strategy)
        self._superseded |= self._places.pop(key, None) is not None
        self._places[key] = _Place(self._traces.append(dump(trace.to_dict())), trace.settlement is not None)
        self._answers.append(_answer_line(trace))

    def sync(self) -> None:
        """Like `Lines.sync`, for all files. Also raises `OutputError` if a file was removed or replaced."""
        self.journal.sync()
        self._traces.sync()
        self._check_place()

    def _check_place(self) -> None:
        for file in (self.journal, self._traces, self._answers):
            file.check_place()

    def close(self, order: Sequence[Key] = (), *, complete: bool = False) -> None:
        """Sort the files by `order`, followed by all other traces, and release the lock.

        `complete`: `order` contains all questions. Unanswered traces of other questions are then removed; an example is
        a row that could not be read and was corrected before this run. Raises `OutputError` like `sync`.
        """
        with self._stack, ExitStack() as files:
            files.callback(self._close_files)
            self._check_place()
            known = set(order)
            others = [
                key for key, place in self._places.items() if key not in known and (place.answered or not complete)
            ]
            self._arrange([*(key for key in order if key in self._places), *others])

    # --- content of an earlier run ---

    def _check_earlier_run(self, settings: Settings, fresh: bool) -> None:
        before = _read_record(self.path / RUN)
        if fresh:
            self._move_aside((TRACES, ANSWERS, CALLS, RUN), "--fresh: the earlier content")
            return
        if before is None:
            return
        differences = difference(before, settings.record)
        if differences.others:
            raise InputError(
                f"{self.path} was made with other settings: {'; '.join(differences.others)}",
                hint="--fresh (fresh=True) moves the content aside and starts over; or choose another folder",
            )
        if differences.answers:
            # Unaffected calls are reused: they stay in calls.jsonl.
            self._move_aside((TRACES, ANSWERS, RUN), f"changed: {'; '.join(differences.answers)}; earlier answers")

    def _move_aside(self, names: Sequence[str], what: str) -> None:
        present = [name for name in names if (self.path / name).exists()]
        if not present:
            return
        number = 1
        while (beside := self.path.with_name(f"{self.path.name}.{number}")).exists():
            number += 1
        beside.mkdir()
        for name in present:
            shutil.move(self.path / name, beside / name)
        self.notes.append(f"{what} moved to {beside}")

    # --- traces and answers ---

    def _open_files(self) -> None:
        self._traces = Lines(self.path / TRACES)
        self._answers = Lines(self.path / ANSWERS)
        self._damage = DamageNotes(
            self.notes,
            self.path / TRACES,
            "dropped a damaged line; its question is asked again",
            "dropped {count} damaged lines{first}; their questions are asked again",
        )
        try:
            self._read_files()
        except BaseException:
            self._close_files()
            raise

    def _read_files(self) -> None:
        torn = {CALLS: self.journal.torn, TRACES: self._traces.torn, ANSWERS: self._answers.torn}
        self.notes += [f"{name}: removed an incomplete last line" for name, was in torn.items() if was]
        self._places: dict[Key, _Place] = {}
        self._superseded = False
        damaged = []
        for number, offset, line in self._traces:
            found = _head(line)
            if found is None:
                damaged.append(number)
                continue
            if found.version > SCHEMA_VERSION:
                raise InputError(
                    f"{self.path / TRACES}, line {number}: has format {found.version}, expected {SCHEMA_VERSION}",
                    hint="resume with the version of colm-vl that wrote it",
                )
            self._superseded |= self._places.pop(found.key, None) is not None
            self._places[found.key] = _Place(offset, found.answered)
        self._damage.opened(damaged)
        self._superseded |= bool(damaged)
        # The two files differ if a run was killed after writing only one of them.
        answers = [found.key for line in self._answers if (found := _head(line.data))]
        self._superseded |= answers != list(self._places)
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
        replace_file(self.path / ANSWERS, self._answers_in(order, sound))
        replace_file(self.path / TRACES, (self._traces.read(self._places[key].offset) for key in sound))
        self._close_files()
        self._traces, self._answers = Lines(self.path / TRACES), Lines(self.path / ANSWERS)
        self._superseded = False
        self._places = {
            key: _Place(line.offset, self._places[key].answered) for key, line in zip(sound, self._traces, strict=True)
        }

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
        except (InputError, *_UNREADABLE):
            del self._places[key]
            self._superseded = True
            self._damage.found(place.offset)
            return None

    def _read(self, place: _Place) -> Trace:
        return Trace.from_dict(json.loads(self._traces.read(place.offset)))


def answered_in(path: Path) -> int:
    """The number of answers in the folder, without incomplete and damaged lines. Does not lock or change the folder."""
    if not (path / TRACES).exists():
        return 0
    with (path / TRACES).open("rb") as file:
        heads = (_head(line) for line in file if line.endswith(b"\n"))
        return sum({head.key: head.answered for head in heads if head}.values())


def _head(line: bytes) -> _Head | None:
    """None for a damaged line."""
    try:
        data = json.loads(line)
        id_, strategy, version = data["id"], data["strategy"], data.get("schema_version", 1)
        answered = data.get("settlement") is not None
    except _UNREADABLE:
        return None
    if not isinstance(id_, str) or not isinstance(strategy, str) or not isinstance(version, int):
        return None
    return _Head(Key(id_, strategy), answered, version)


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


def _read_record(path: Path) -> Mapping[str, Any] | None:
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
