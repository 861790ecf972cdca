"""The exceptions of colm-vl.

    ColmError
    ├── ConfigError              the team file, the policy or an option is wrong
    │   └── MissingPackage       an extra is not installed; the hint is the `pip install` line
    ├── InputError               the question, its choices or its pictures cannot be used
    ├── OutputError              a file of a batch's folder cannot be written; ends the batch
    ├── ImageError               a picture cannot be used; also a ValueError
    ├── FamilyError              a checkpoint's inputs cannot be prepared; also a RuntimeError
    ├── NoAnswer                 no answer could be reached; the message names each failure
    └── BackendError             one call to one model failed
        ├── Unreachable          connection refused or reset, unknown host
        ├── TimedOut             the timeout of the stage or of the request expired
        ├── RateLimited          too many requests; `retry_after` in seconds if the endpoint gave it
        ├── Unavailable          a fault of the endpoint (5xx)
        ├── Refused              not authorized: a missing or wrong key (401, 403)
        ├── ModelNotFound        no such model or model folder
        ├── ContextTooLong       the request does not fit the model's context
        ├── Unsupported          the model does not take pictures, or not as many
        ├── BadReply             the response is not a reply: HTML, an error body, truncated, empty
        └── LoadFailed           a local model could not be loaded or ran out of memory

ColmError, ImageError and FamilyError are defined in `processors.errors`: `processors` imports nothing from `colm_vl`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
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
    "OutputError",
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


class OutputError(ColmError):
    """A file of a batch's folder cannot be written. It ends the batch, because further results would be lost."""

    kind = "output"


class NoAnswer(ColmError):
    """`trace` is the record of the question, with all failures."""

    kind = "no_answer"

    def __init__(self, message: str, *, hint: str = "", trace: Trace | None = None) -> None:
        super().__init__(message, hint=hint)
        self.trace = trace


class BackendError(ColmError):
    """One call failed. `status` is the HTTP status, if there was one."""

    kind = "backend"

    def __init__(self, message: str, *, hint: str = "", status: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class Unreachable(BackendError):
    kind = "unreachable"
    retryable = True


class TimedOut(BackendError):
    """`limit` is the request's timeout in seconds, if that is the one that expired."""

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


BACKEND_ERRORS: Mapping[str, type[BackendError]] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            BackendError, Unreachable, TimedOut, RateLimited, Unavailable, Refused, ModelNotFound, ContextTooLong,
            Unsupported, BadReply, LoadFailed,
        )
    }
)  # fmt: skip
"""The errors of a call by their kind."""
