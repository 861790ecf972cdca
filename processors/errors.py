"""The root of what is raised on purpose, here and in `colm_vl`, and the two errors of this package."""

from __future__ import annotations

from typing import ClassVar


class ColmError(Exception):
    """Root of the tree.

    The message is one line: the thing, its value, what was expected. `hint` says what to do about it, `retryable`
    whether the same call may succeed a moment later, `kind` is the name that a `Failure` in a trace carries.
    """

    kind: ClassVar[str] = "error"
    retryable: bool = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(" ".join(message.split()))
        self.hint = " ".join(hint.split())

    @property
    def message(self) -> str:
        return str(self)


class ImageError(ColmError, ValueError):
    """A picture that cannot be used: the message names it, says what it is and what was expected.

    No decoder's text is repeated: such text can carry memory addresses and speaks to programmers.
    """

    kind = "image"

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class FamilyError(ColmError, RuntimeError):
    """A checkpoint whose inputs cannot be prepared here."""

    kind = "family"
