"""The base class of all exceptions of this package and `colm_vl`, and the two exceptions of this package."""

from __future__ import annotations

from typing import ClassVar


class ColmError(Exception):
    """The base class of all exceptions.

    The message is one line: the thing, its value, what was expected. `hint` says how to fix it, and `retryable` whether
    the same call may succeed later. `kind` is copied to the `Failure` in a trace.
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
    """A picture cannot be used. The message says which one, what it is, and what was expected.

    Messages of decoders are not included: they can contain memory addresses and do not help users.
    """

    kind = "image"

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class FamilyError(ColmError, RuntimeError):
    """The inputs of a checkpoint cannot be prepared."""

    kind = "family"
