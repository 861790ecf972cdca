"""What is said when a picture cannot be used."""

from __future__ import annotations


class ImageError(ValueError):
    """A picture that cannot be used: the message names it, says what it is and what was expected, in one line.

    No decoder's text is repeated: such text can carry memory addresses and speaks to programmers.
    """

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        """`hint`: what to do about it. `retryable`: the same call may succeed later (a time-out while fetching)."""
        super().__init__(message)
        self.hint = hint
        self.retryable = retryable
