"""What a visitor is told when something did not work."""

from __future__ import annotations

import logging

from colm_vl import ColmError

from .inputs import FieldError, words

logger = logging.getLogger(__name__)

FAULT = "Something went wrong on the server's side; the operator's log tells what. Try again, or ask something else."


def in_words(error: Exception) -> str:
    """What is not meant for a visitor goes to the log, and the visitor is told so."""
    if isinstance(error, FieldError):
        return str(error)
    if isinstance(error, ColmError):
        return words(error)
    logger.error("a question failed", exc_info=error)
    return FAULT
