"""The waiting line for questions, with a limit on how many are answered at the same time."""

from __future__ import annotations

import asyncio
from collections import deque

from colm_vl import ColmError


class Full(ColmError):
    """The waiting line is full."""

    kind = "full"

    def __init__(self) -> None:
        super().__init__("too many questions are waiting at the moment", hint="try again in a minute")


class WaitingLine:
    """Admits up to `width` tickets at a time, in order of arrival, and lets up to `length` wait. For one event loop."""

    def __init__(self, width: int, length: int) -> None:
        self.width = width
        self.length = length
        self._inside = 0
        self._line: deque[Ticket] = deque()

    @property
    def waiting(self) -> int:
        return len(self._line)

    def line_up(self) -> Ticket:
        """Raises `Full`. The caller must return the ticket with `leave`, whether or not it was admitted."""
        if self._inside >= self.width and len(self._line) >= self.length:
            raise Full
        ticket = Ticket(self)
        self._line.append(ticket)
        self._advance()
        return ticket

    def ahead_of(self, ticket: Ticket) -> int:
        return self._line.index(ticket) if ticket in self._line else 0

    def leave(self, ticket: Ticket) -> None:
        if ticket in self._line:
            self._line.remove(ticket)
        elif ticket.admitted.is_set() and not ticket.gone:
            self._inside -= 1
        ticket.gone = True
        self._advance()

    def _advance(self) -> None:
        while self._line and self._inside < self.width:
            self._inside += 1
            self._line.popleft().admitted.set()


class Ticket:
    """A place in the line. Use it in a `with` statement, which returns it."""

    def __init__(self, waiting: WaitingLine) -> None:
        self.admitted = asyncio.Event()
        self.gone = False
        self._line = waiting

    @property
    def ahead(self) -> int:
        """The number of tickets that wait before this one."""
        return self._line.ahead_of(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, *_: object) -> None:
        self._line.leave(self)
