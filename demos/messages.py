"""Error messages for visitors."""

from __future__ import annotations

import logging

from colm_vl import ColmError

from .inputs import FieldError, words

logger = logging.getLogger(__name__)

FAULT = "An internal error occurred; the details are in the server's log. Try again, or ask another question."


def in_words(error: Exception) -> str:
    """The message for a visitor. Unexpected exceptions are logged and not shown."""
    if isinstance(error, FieldError):
        return str(error)
    if isinstance(error, ColmError):
        return words(error)
    logger.error("a question failed", exc_info=error)
    return FAULT
