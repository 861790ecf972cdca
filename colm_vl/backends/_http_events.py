"""Parses server-sent events, as far as chat completions use them (WHATWG HTML, 9.2)."""

from __future__ import annotations

import re

from colm_vl.backends._http import TooLarge

MAX_EVENT_BYTES = 1 << 20

_LINE_END = re.compile(rb"\r\n|\n|\r")


class EventReader:
    """Extracts the data of events from the bytes of a stream. Raises `TooLarge` if an event is too long."""

    def __init__(self) -> None:
        self._line: list[bytes] = []  # the pieces of an incomplete line
        self._data: list[bytes] = []
        self._size = 0
        self._after_return = False

    def feed(self, piece: bytes) -> list[bytes]:
        """The data of the events that end in `piece`."""
        if self._after_return and piece.startswith(b"\n"):
            piece = piece[1:]
        self._after_return = piece.endswith(b"\r")
        events = []
        # Search only the new piece for line ends, so that the time is linear in the size of the stream.
        *ended, rest = _LINE_END.split(piece)
        for end in ended:
            self._grow(end)
            line = b"".join(self._line)
            self._line.clear()
            if line:
                self._take(line)
            else:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data.clear()
                self._size = 0
        if rest:
            self._grow(rest)
        return events

    def _grow(self, part: bytes) -> None:
        self._line.append(part)
        self._size += len(part)
        if self._size > MAX_EVENT_BYTES:
            raise TooLarge

    def _take(self, line: bytes) -> None:
        """Keep data. Comments and other fields are dropped and do not count towards the limit."""
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
        else:
            self._size -= len(line)
