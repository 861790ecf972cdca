"""What a visitor is told when something did not work."""

from __future__ import annotations

import logging

from colm_vl import ColmError

from .desk import Busy
from .inputs import FieldError, words
from .turnstile import Full

logger = logging.getLogger(__name__)

FAULT = "Something went wrong on the server's side; the operator's log tells what. Try again, or ask something else."
STILL_BUSY = "Your last question is still being answered. Stop it first."


def in_words(error: Exception) -> str:
    """What is not meant for a visitor goes to the log, and the visitor is told so."""
    if isinstance(error, FieldError):
        return str(error)
    if isinstance(error, Full):
        return "Too many questions are waiting at the moment. Try again in a minute."
    if isinstance(error, Busy):
        return STILL_BUSY
    if isinstance(error, ColmError):
        return words(error)
    logger.error("a question failed", exc_info=error)
    return FAULT
