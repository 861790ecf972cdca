"""Mathematical answers: LaTeX, fractions, percentages, intervals, sets and units, compared by Math-Verify and pint."""

from __future__ import annotations

import atexit
import json
import logging
import subprocess
import sys
from functools import cache, lru_cache
from pathlib import Path
from threading import Lock, Timer

from pydantic import Field
from typing_extensions import override

from colm_vl.errors import ConfigError
from colm_vl.extras import require

from .base import Gold, GradingMetric

logger = logging.getLogger(__name__)


class Math(GradingMetric):
    note = "an equal number, expression, interval or set, in LaTeX or as text; a number in other units is converted"
    source = "Math-Verify (huggingface/Math-Verify); units: pint"

    seconds: float = Field(default=10, gt=0, description="limit for one reply; if it is exceeded, the reply gets 0")

    @override
    def grade(self, reply: str, gold: Gold) -> float:
        return float(_equal(reply, gold.accepted, self.seconds))


@lru_cache(maxsize=10_000)
def _equal(reply: str, accepted: tuple[str, ...], seconds: float) -> bool:
    """Cached, because strategies share answers, and one that takes too long should do so once."""
    return _worker().equal(reply, accepted, seconds)


class _Worker:
    """A process that compares answers. It is killed if a comparison takes too long: Math-Verify's own limits are
    signals, which neither work in threads nor interrupt arithmetic with huge integers."""

    def __init__(self) -> None:
        for package in ("math_verify", "pint"):
            require(package, "math")
        self._lock = Lock()
        self._process = _start()

    def equal(self, reply: str, accepted: tuple[str, ...], seconds: float) -> bool:
        with self._lock:
            if self._process.poll() is not None:
                self._process = _start()
            answer = _ask(self._process, json.dumps([reply, accepted]), seconds)
        if answer is None:
            logger.warning("metric math: no result within %g s; graded 0: %.80r", seconds, reply)
        return answer == "true"

    def close(self) -> None:
        self._process.kill()
        _wait(self._process)


def _start() -> subprocess.Popen[str]:
    script = str(Path(__file__).with_name("_math_worker.py"))
    # -P: the modules of this folder must not hide those of the standard library, such as math.
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-W", "ignore", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )
    if not _read(process):
        raise ConfigError("metric math: its process did not start", hint="pip install 'colm-vl[math]'")
    return process


def _ask(process: subprocess.Popen[str], line: str, seconds: float) -> str | None:
    """The line that the process answers, or None if it had to be killed, or died, for instance out of memory."""
    assert process.stdin
    timer = Timer(seconds, process.kill)
    timer.start()
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return _read(process) or None
    finally:
        timer.cancel()


def _read(process: subprocess.Popen[str]) -> str:
    """ "" if the process has ended."""
    assert process.stdout
    line = process.stdout.readline().strip()
    if not line:
        _wait(process)
    return line


def _wait(process: subprocess.Popen[str]) -> None:
    with process:  # closes its pipes
        pass


@cache
def _worker() -> _Worker:
    """One process for all questions: it takes a second to start."""
    worker = _Worker()
    atexit.register(worker.close)
    return worker


METRIC = Math
