"""Everything colm-vl raises on purpose, in one tree.

    ColmError
    ├── ConfigError              the team file, the policy or an option is wrong
    │   └── MissingPackage       an extra is not installed; the hint is the `pip install` line
    ├── InputError               the question, its choices or its pictures cannot be used
    ├── ImageError               a picture cannot be used; also a ValueError
    ├── FamilyError              a checkpoint's inputs cannot be prepared; also a RuntimeError
    ├── NoAnswer                 every way to an answer failed; the message names each failure
    └── BackendError             one call of one model failed
        ├── Unreachable          refused, reset, unknown host
        ├── TimedOut             the time-out of the stage or of the request ran out
        ├── RateLimited          told to wait; `retry_after` in seconds where it was said
        ├── Unavailable          the endpoint's own fault (5xx)
        ├── Refused              not allowed: a missing or wrong key (401, 403)
        ├── ModelNotFound        no such model, or no such folder
        ├── ContextTooLong       the request does not fit the model's context
        ├── Unsupported          more than the model can take: pictures, too many pictures
        ├── BadReply             what came back is no reply: HTML, an error body, cut off, empty
        └── LoadFailed           a local model could not be loaded or ran out of memory

The root, ImageError and FamilyError are defined in `processors.errors`, since `processors` imports nothing from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from processors.errors import ColmError, FamilyError, ImageError

if TYPE_CHECKING:
    from colm_vl.types import Trace


__all__ = [
    "BackendError",
    "BadReply",
    "ColmError",
    "ConfigError",
    "ContextTooLong",
    "FamilyError",
    "ImageError",
    "InputError",
    "LoadFailed",
    "MissingPackage",
    "ModelNotFound",
    "NoAnswer",
    "RateLimited",
    "Refused",
    "TimedOut",
    "Unavailable",
    "Unreachable",
    "Unsupported",
]


class ConfigError(ColmError):
    kind = "config"


class MissingPackage(ConfigError):
    kind = "missing_package"


class InputError(ColmError):
    kind = "input"


class NoAnswer(ColmError):
    """`trace` is the record of what was tried."""

    kind = "no_answer"

    def __init__(self, message: str, *, hint: str = "", trace: Trace | None = None) -> None:
        super().__init__(message, hint=hint)
        self.trace = trace


class BackendError(ColmError):
    """One call failed. `status` is the HTTP status where there was one."""

    kind = "backend"

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Unreachable(BackendError):
    kind = "unreachable"
    retryable = True


class TimedOut(BackendError):
    """`limit` is the request's time-out in seconds, if that is what ran out."""

    kind = "timed_out"
    retryable = True

    def __init__(self, message: str, *, hint: str = "", status: int | None = None, limit: float | None = None) -> None:
        super().__init__(message, hint=hint, status=status)
        self.limit = limit


class RateLimited(BackendError):
    kind = "rate_limited"
    retryable = True

    def __init__(
        self, message: str, *, hint: str = "", status: int | None = 429, retry_after: float | None = None
    ) -> None:
        super().__init__(message, hint=hint, status=status)
        self.retry_after = retry_after


class Unavailable(BackendError):
    kind = "unavailable"
    retryable = True


class Refused(BackendError):
    kind = "refused"


class ModelNotFound(BackendError):
    kind = "model_not_found"


class ContextTooLong(BackendError):
    kind = "context_too_long"


class Unsupported(BackendError):
    kind = "unsupported"


class BadReply(BackendError):
    kind = "bad_reply"
    retryable = True


class LoadFailed(BackendError):
    kind = "load_failed"
