"""Stores finished calls in a file, so that a batch can be resumed without repeating them."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict, override

from colm_vl.backends.base import Generation, TokenLogprob
from colm_vl.batch.lines import DamageNotes, Line, LineReader, Lines, dump
from colm_vl.errors import InputError
from colm_vl.store import CallKey, CallsUnderWay, Outcome
from colm_vl.types import Failure, Sent, Timing, Usage

SCHEMA_VERSION = 1
"""The version of a line's format. Lines without a version have version 1."""

_PREFIX = b'{"key":"'
_DIGEST_LENGTH = 64
_AFTER_DIGEST = len(_PREFIX) + _DIGEST_LENGTH
_VERSION = b'","version":'
_THIS_VERSION = b"%b%d," % (_VERSION, SCHEMA_VERSION)


class Journal(CallsUnderWay):
    """A `CallStore` in a file, with one line for each successful call, keyed by `CallKey.digest`.

    Only the offsets of the lines are kept in memory. Failed calls are not written, so the next run retries them;
    `keep_failures` keeps them in memory until this run ends. Damaged lines are reported in `notes`, and their calls are
    made again. The calls in the files `others` are known, too; nothing is written to these.
    """

    def __init__(self, path: Path, notes: list[str] | None = None, others: Sequence[Path] = ()) -> None:
        """Raises `InputError` if a journal has a newer format."""
        super().__init__()
        self.notes = [] if notes is None else notes
        self.keep_failures = False
        self._failures: dict[str, Failure] = {}
        self._lines = Lines(path)
        self.torn = self._lines.torn
        self._files: list[LineReader] = [self._lines]
        # Keyed by the first 60 bits of the digest, which take half the memory; `_get` compares the whole digest. A
        # place is an offset and the number of its file, in one integer.
        self._places: dict[int, int] = {}
        self._number_of_files = 1 + len(others)
        try:
            self._files += [LineReader(other) for other in others]
            self._damages = [_damage_notes(self.notes, file.path) for file in self._files]
            for index, (file, damage) in enumerate(zip(self._files, self._damages, strict=True)):
                damaged: list[int] = []
                for digest, line in _sound_lines(file, damaged):
                    self._places[short(digest)] = line.offset * self._number_of_files + index
                damage.opened(damaged)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return len(self._places)

    def take_in(self, other: Path) -> None:
        """Append the calls of another journal that are not known. Raises `InputError` if it has a newer format."""
        file, damaged = LineReader(other), list[int]()
        try:
            for digest, line in _sound_lines(file, damaged):
                if short(digest) not in self._places:
                    self._places[short(digest)] = self._lines.append(line.data) * self._number_of_files
        finally:
            file.close()
        _damage_notes(self.notes, other).opened(damaged)

    @override
    async def _get(self, key: CallKey) -> Outcome | None:
        digest = key.digest
        if digest in self._failures:
            return self._failures[digest]
        place = self._places.get(short(digest))
        if place is None:
            return None
        offset, file = divmod(place, self._number_of_files)
        line = self._files[file].read(offset)
        try:
            return generation_of(line, digest)
        except (ValueError, RecursionError):  # the line is damaged
            del self._places[short(digest)]
            self._damages[file].found(offset)
            return None

    @override
    async def _put(self, key: CallKey, outcome: Outcome) -> None:
        digest = key.digest
        if isinstance(outcome, Failure):
            if self.keep_failures:
                self._failures[digest] = outcome
        else:
            self.append(line_of(key, outcome))

    def append(self, line: bytes) -> None:
        """Append a line that `line_of` made. Raises `OutputError`."""
        self._places[short(digest_of(line))] = self._lines.append(line) * self._number_of_files

    def known(self) -> array[int]:
        """The first 60 bits of the digests of all calls, in ascending order."""
        return array("Q", sorted(self._places))

    def lines(self, shorts: Iterable[int]) -> list[bytes]:
        """The lines of those of these calls that are known."""
        places = [self._places[key] for key in shorts if key in self._places]
        return [self._files[place % self._number_of_files].read(place // self._number_of_files) for place in places]

    @property
    def files(self) -> list[Path]:
        return [file.path for file in self._files]

    def sync(self) -> None:
        self._lines.sync()

    def check_place(self) -> None:
        self._lines.check_place()

    def close(self) -> None:
        with ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)


def _damage_notes(notes: list[str], path: Path) -> DamageNotes:
    return DamageNotes(
        notes,
        path,
        "is damaged; its call is made again",
        "{count} lines are damaged{first}; their calls are made again",
    )


def _sound_lines(file: LineReader, damaged: list[int]) -> Iterator[tuple[str, Line]]:
    """The lines of a journal with their digests. Appends the numbers of damaged lines to `damaged`. Raises `InputError`
    if the journal has a newer format."""
    for line in file:
        digest, rest = line.data[len(_PREFIX) : _AFTER_DIGEST], line.data[_AFTER_DIGEST:]
        if not line.data.startswith(_PREFIX) or not _is_hex(digest):
            damaged.append(line.number)
            continue
        if rest.startswith(_VERSION) and not rest.startswith(_THIS_VERSION):
            raise InputError(
                f"{file.path}, line {line.number}: has a newer format than {SCHEMA_VERSION}",
                hint="resume with the version of colm-vl that wrote it",
            )
        yield digest.decode(), line


def places_in(file: LineReader) -> dict[int, int]:
    """The offsets of a journal's lines, by the first 60 bits of their digests."""
    return {short(digest): line.offset for digest, line in _sound_lines(file, [])}


def short(digest: str) -> int:
    """The first 60 bits of a digest."""
    return int(digest[:15], 16)


def _is_hex(digest: bytes) -> bool:
    return len(digest) == _DIGEST_LENGTH and not digest.strip(b"0123456789abcdef")


class _Line(TypedDict):
    """The fields that are read from a line. Member, stage, round and sample are only written for human readers."""

    key: str
    text: str
    finish_reason: Literal["stop", "length"]
    usage: tuple[int, int, int]
    sent: tuple[int, int, int]
    seconds: float
    attempts: int
    logprobs: list[tuple[str, float]] | None
    letters: NotRequired[dict[int, dict[str, float]]]
    plain: NotRequired[bool]
    reading: NotRequired[dict[str, Any]]
    timing: NotRequired[tuple[float | None, float | None, float | None]]


@cache
def _line_adapter() -> TypeAdapter[_Line]:
    return TypeAdapter(_Line)


def line_of(key: CallKey, generation: Generation) -> bytes:
    """The line of a finished call in a journal."""
    return dump(_line(key.digest, key, generation))


def digest_of(line: bytes) -> str:
    """The digest of the call whose line `line_of` made."""
    return line[len(_PREFIX) : _AFTER_DIGEST].decode()


def generation_of(line: bytes, digest: str) -> Generation | None:
    """The reply in a line, None if the line is of another call. Raises `ValueError` or `RecursionError` if it is
    damaged."""
    fields = _line_adapter().validate_python(json.loads(line))
    return _generation(fields) if fields["key"] == digest else None


def _line(digest: str, key: CallKey, generation: Generation) -> dict[str, Any]:
    """`key` and `version` come first, because opening a journal reads only these. The handle is not stored."""
    usage, sent = generation.usage, generation.sent
    tokens = generation.logprobs or ()
    letters = {place: token.letters for place, token in enumerate(tokens) if token.letters}
    return {
        "key": digest,
        "version": SCHEMA_VERSION,
        "member": key.member.name,
        "stage": key.stage,
        "round": key.round,
        "sample": key.sample,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "usage": (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens),
        "sent": (sent.bytes, sent.images, sent.pixels),
        "seconds": round(generation.seconds, 6),
        "attempts": generation.attempts,
        "logprobs": None
        if generation.logprobs is None
        else [[token.token, token.logprob] for token in generation.logprobs],
        **({"letters": letters} if letters else {}),
        **({"plain": True} if generation.plain else {}),
        **({"reading": generation.reading} if generation.reading is not None else {}),
        **({"timing": _rounded(generation.timing)} if generation.timing != Timing() else {}),
    }


def _rounded(timing: Timing) -> tuple[float | None, ...]:
    parts = (timing.queued, timing.prefill, timing.decode)
    return tuple([None if seconds is None else round(seconds, 6) for seconds in parts])


def _generation(line: _Line) -> Generation:
    logprobs, letters = line["logprobs"], line.get("letters", {})
    return Generation(
        text=line["text"],
        finish_reason=line["finish_reason"],
        usage=Usage(*line["usage"]),
        sent=Sent(*line["sent"]),
        logprobs=None
        if logprobs is None
        else tuple(TokenLogprob(token, logprob, letters.get(place)) for place, (token, logprob) in enumerate(logprobs)),
        seconds=line["seconds"],
        attempts=line["attempts"],
        plain=line.get("plain", False),
        reading=line.get("reading"),
        timing=Timing(*line.get("timing", ())),
    )
