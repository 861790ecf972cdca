"""What a run tells on the terminal: how far it is, and what came of it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.progress import Progress
from rich.table import Table as Grid

from colm_vl.types import Trace

from .report.findings import findings
from .running import ANSWER_FILES
from .runs import read_evaluation


class Progressing:
    """How far a run is: a bar on a terminal, a line at every tenth elsewhere; on standard error."""

    def __init__(self, total: int) -> None:
        self._console = Console(stderr=True)
        self._bar = Progress(console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("answers", total=total)
        self._total = total
        self._done = 0

    def count(self, trace: Trace) -> bool:
        """Takes note of a finished trace; tells whether it has an answer."""
        self._done += 1
        self._bar.advance(self._task)
        tenth = 10 * self._done // self._total != 10 * (self._done - 1) // self._total
        if tenth and not self._console.is_terminal:
            self._console.print(f"{self._done} of {self._total} answers")
        return trace.settlement is not None

    def __enter__(self) -> Progressing:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


def run_summary(folder: Path) -> RenderableType:
    """One line a strategy, or where a benchmark's answer files are."""
    evaluation = read_evaluation(folder)
    if not evaluation.benchmark.scored:
        return f"Answer files for {evaluation.benchmark.title}'s own judge: {folder / ANSWER_FILES}"
    found = findings(evaluation)
    grid = Grid(title=f"{found.title}, {found.items} questions, rule {found.lead.value}")
    grid.add_column("strategy")
    for heading in ("accuracy", "95 % interval", "no answer", "calls", "tokens"):
        grid.add_column(heading, justify="right")
    for one in found.strategies:
        calls = f"{one.cost.calls / max(one.cost.items, 1):.2f}"
        between = f"{one.interval.low:.1%} to {one.interval.high:.1%}"
        grid.add_row(one.name, f"{one.accuracy:.1%}", between, str(one.failed), calls, f"{one.cost.tokens_each:.2f}")
    return Group(grid, f"More: colm-vl eval report {folder}")
