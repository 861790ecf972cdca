"""Finished calls in a file, so that a batch that was killed goes on and pays for nothing twice."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

from typing_extensions import override

from colm_vl.backends.base import Generation, TokenLogprob
from colm_vl.batch.lines import Lines, dump
from colm_vl.store import CallKey, CallsUnderWay, Outcome
from colm_vl.types import Failure, Sent, Usage

_PREFIX = b'{"key":"'
_DIGEST_LENGTH = 64


class Journal(CallsUnderWay):
    """A `CallStore` in a file: one line for each call that gave a reply, keyed by `CallKey.digest`.

    In memory there are only the places of the lines. Calls that failed are not written: the next run tries them again.
    `keep_failures` has them remembered until this one ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.keep_failures = False
        self._failures: dict[str, Failure] = {}
        self._lines = Lines(path)
        self.torn = self._lines.torn
        # The first 60 bits, which take half the memory of the whole digest; a line is compared whole when it is read.
        self._places: dict[int, int] = {}
        for offset, line in self._lines:
            digest = line[len(_PREFIX) : len(_PREFIX) + _DIGEST_LENGTH]
            if line.startswith(_PREFIX) and _is_hex(digest):
                self._places[_short(digest.decode())] = offset

    def __len__(self) -> int:
        return len(self._places)

    @override
    async def _get(self, key: CallKey) -> Outcome | None:
        digest = key.digest
        if digest in self._failures:
            return self._failures[digest]
        offset = self._places.get(_short(digest))
        if offset is None:
            return None
        try:
            data = json.loads(self._lines.read(offset))
            return _generation(data) if data["key"] == digest else None
        except (ValueError, LookupError, TypeError):  # damaged by something other than us: as if it were not there
            return None

    @override
    async def _put(self, key: CallKey, outcome: Outcome) -> None:
        digest = key.digest
        if isinstance(outcome, Failure):
            if self.keep_failures:
                self._failures[digest] = outcome
        else:
            self._places[_short(digest)] = self._lines.append(dump(_line(digest, key, outcome)))

    def sync(self) -> None:
        self._lines.sync()

    def close(self) -> None:
        self._lines.close()


def _short(digest: str) -> int:
    return int(digest[:15], 16)


def _is_hex(digest: bytes) -> bool:
    return len(digest) == _DIGEST_LENGTH and all(char in b"0123456789abcdef" for char in digest)


def _line(digest: str, key: CallKey, generation: Generation) -> dict[str, Any]:
    """`key` comes first: an opening journal reads no further. The handle never leaves the process."""
    return {
        "key": digest,
        "member": key.member.name,
        "stage": key.stage,
        "round": key.round,
        "sample": key.sample,
        "text": generation.text,
        "finish_reason": generation.finish_reason,
        "usage": astuple(generation.usage),
        "sent": astuple(generation.sent),
        "seconds": round(generation.seconds, 6),
        "attempts": generation.attempts,
        "logprobs": None
        if generation.logprobs is None
        else [[token.token, token.logprob] for token in generation.logprobs],
    }


def _generation(data: dict[str, Any]) -> Generation:
    logprobs = data["logprobs"]
    return Generation(
        text=data["text"],
        finish_reason=data["finish_reason"],
        usage=Usage(*data["usage"]),
        sent=Sent(*data["sent"]),
        logprobs=None if logprobs is None else tuple(TokenLogprob(token, logprob) for token, logprob in logprobs),
        seconds=data["seconds"],
        attempts=data["attempts"],
    )
