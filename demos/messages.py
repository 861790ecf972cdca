"""What visitors are told of errors.

The messages of failed calls name addresses, folders and variables of the operator. Visitors get the kind of the failure
in words, and the message goes to the log.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import PurePath

from colm_vl import ColmError, Failure, Trace

from .inputs import FieldError, words

logger = logging.getLogger(__name__)

FAULT = "An internal error occurred; the details are in the server's log. Try again, or ask another question."

_FAILURES = {
    "unreachable": "could not be reached",
    "timed_out": "took too long",
    "rate_limited": "has too much to do at the moment",
    "unavailable": "is not available at the moment",
    "refused": "refused the request",
    "model_not_found": "was not found",
    "context_too_long": "cannot read that much at once",
    "unsupported": "cannot do what was asked of it",
    "bad_reply": "sent a reply that cannot be read",
    "load_failed": "could not be loaded",
}


def failure_in_words(failure: Failure) -> str:
    return f"{failure.member or 'The question'} {_FAILURES.get(failure.kind, 'failed')}."


def for_visitors(trace: Trace) -> Trace:
    """The trace without the operator's addresses and folders. Profiles have the paths of the team file."""
    return replace(
        trace,
        failures=tuple(replace(one, message=failure_in_words(one), hint="") for one in trace.failures),
        members=tuple(replace(one, prompts=PurePath(one.prompts).name) for one in trace.members),
    )


def in_words(error: Exception) -> str:
    """The message for a visitor. Unexpected exceptions are logged and not shown."""
    if isinstance(error, FieldError):
        return str(error)
    if isinstance(error, ColmError):
        return words(error)
    logger.error("a question failed", exc_info=error)
    return FAULT
