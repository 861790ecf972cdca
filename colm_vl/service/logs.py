"""One line in the log for each request, as text or JSON, without question and answer unless the operator wants them."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from typing_extensions import override

from colm_vl.service.accounting import Bill
from colm_vl.service.settings import LogFormat

logger = logging.getLogger("colm_vl.access")


class RequestLog:
    """`content`: whether lines contain the question and the answer."""

    def __init__(self, *, content: bool = False) -> None:
        self._content = content

    def served(self, bill: Bill) -> None:
        if not logger.isEnabledFor(logging.INFO):
            return
        usage = bill.usage
        fields: dict[str, Any] = {
            "key": bill.caller,
            "route": bill.route,
            "model": bill.model,
            "status": bill.status,
            "seconds": round(bill.seconds, 3),
            "waited": round(bill.waited, 3),
            "calls": len(bill.calls),
            "failed_calls": len(bill.failures),
            "avoided_calls": bill.avoided,
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "bytes_in": bill.bytes_in,
            "bytes_out": bill.bytes_out,
        }
        if self._content and bill.traces:
            fields |= {"question": bill.traces[0].question, "answer": bill.traces[0].answer}
        logger.info("request", extra={"fields": fields})


class Formatter(logging.Formatter):
    """Time, level, logger and message, followed by the fields of a request."""

    def __init__(self, kind: LogFormat) -> None:
        super().__init__()
        self._kind = kind

    @override
    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        fields: dict[str, Any] = getattr(record, "fields", {})
        error = self.formatException(record.exc_info) if record.exc_info else ""
        if self._kind == "json":
            line = {
                "time": at,
                "level": record.levelname.lower(),
                "logger": record.name,
                "message": record.getMessage(),
            }
            return _json(line | fields | ({"error": error} if error else {}))
        shown = "".join(f" {name}={_plain(value)}" for name, value in fields.items())
        return f"{at} {record.levelname} {record.name}: {record.getMessage()}{shown}" + (f"\n{error}" if error else "")


def set_up(kind: LogFormat, *, debug: bool) -> None:
    """Log to standard error: requests and warnings, or everything with `debug`."""
    handler = logging.StreamHandler()
    handler.setFormatter(Formatter(kind))
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, handlers=[handler])
    logger.setLevel(logging.INFO)


def _plain(value: object) -> str:
    text = str(value)
    return text if text and text.isprintable() and " " not in text else _json(text)


def _json(value: object) -> str:
    """With all but ASCII escaped if it has characters that could control the operator's terminal."""
    written = json.dumps(value, ensure_ascii=False)
    return written if written.isprintable() else json.dumps(value)
