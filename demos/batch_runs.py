"""The last batch of each browser, kept so that it can be seen again and continued after a reload of the page."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from colm_vl import Trace

from .batch_questions import Questions, UploadedQuestion

MOST = 16
"""Batches. A large one has several megabytes."""
HOURS = 24
"""As long as uploaded pictures are kept."""
KEY = """(() => {
  const hex = (byte) => byte.toString(16).padStart(2, "0");
  const made = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), hex).join("");
  try {
    const kept = localStorage.getItem("colm-vl-batch") || made();
    localStorage.setItem("colm-vl-batch", kept);
    return kept;
  } catch { return (globalThis.colmBatch ||= made()); }
})()"""
"""JavaScript: the key of this browser's batch, which no other browser can guess."""
_KEY = re.compile("[0-9a-f]{32}")


def is_key(given: str) -> bool:
    return _KEY.fullmatch(given) is not None


@dataclass(frozen=True, slots=True)
class BatchRun:
    """`skipped` describes the questions that could not be asked. `kept` is the number of answers that an earlier run
    gave, which are not part of `seconds`."""

    lines: Sequence[UploadedQuestion]
    strategy: str
    traces: Sequence[Trace]
    skipped: Sequence[str]
    previews: Mapping[str, str]
    seconds: float
    kept: int = 0

    @property
    def finished(self) -> bool:
        return len(self.traces) + len(self.skipped) >= len(self.lines)

    def answers_to(self, questions: Questions, strategy: str) -> dict[str, Trace]:
        """Those to the questions that are unchanged. {} if this batch was finished: it is then asked anew."""
        if strategy != self.strategy or self.finished:
            return {}
        ids = {line.id for line in set(self.lines) & set(questions.lines)}
        return {trace.id: trace for trace in self.traces if trace.id in ids and trace.answer}


class BatchRuns:
    """In memory: they end with the server. The one that was not used for the longest time is dropped first."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._runs: OrderedDict[str, BatchRun] = OrderedDict()
        self._used: dict[str, float] = {}

    def keep(self, key: str, run: BatchRun) -> None:
        if not is_key(key):
            return
        self._runs[key] = run
        self._touch(key)
        while len(self._runs) > MOST:
            self._drop(next(iter(self._runs)))

    def find(self, key: str) -> BatchRun | None:
        oldest = self._clock() - HOURS * 3600
        for old in [one for one, used in self._used.items() if used < oldest]:
            self._drop(old)
        run = self._runs.get(key)
        if run is not None:
            self._touch(key)
        return run

    def _touch(self, key: str) -> None:
        self._runs.move_to_end(key)
        self._used[key] = self._clock()

    def _drop(self, key: str) -> None:
        del self._runs[key], self._used[key]
