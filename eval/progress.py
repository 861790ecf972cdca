"""The output of `colm-vl eval run`: progress, and a table of results at the end."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.progress import Progress
from rich.table import Table

from colm_vl.types import Trace

from .evaluator import ANSWER_FILES
from .report.summary import summarize
from .run_folder import read_evaluation
from .tables import between


class ProgressBar:
    """A progress bar on standard error. If that is not a terminal, a line for each tenth of the answers.

    `about`: the total is an estimate.
    """

    def __init__(self, total: int, *, about: bool = False) -> None:
        self._about = "about " if about else ""
        self._console = Console(stderr=True)
        self._bar = Progress(console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("answers", total=total)
        self._total = total
        self._done = 0

    def count(self, trace: Trace) -> bool:
        """Count a finished trace. Returns whether it has an answer."""
        self._done += 1
        self._bar.advance(self._task)
        tenth = 10 * self._done // self._total != 10 * (self._done - 1) // self._total
        if tenth and not self._console.is_terminal:
            self._console.print(f"{self._done} of {self._about}{max(self._total, self._done)} answers")
        return trace.settlement is not None

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()


def results_summary(folder: Path) -> RenderableType:
    """A table with one row per strategy, or where the answer files are."""
    evaluation = read_evaluation(folder)
    if not evaluation.benchmark.scored:
        return f"Answer files for {evaluation.benchmark.title}'s own judge: {folder / ANSWER_FILES}"
    run = summarize(evaluation)
    rule = f", rule {run.rule.value}" if len(run.rules) > 1 else ""
    table = Table(title=f"{run.title}, {run.items} questions{rule}")
    table.add_column("strategy")
    for heading in ("accuracy", "95 % interval", "no answer", "calls", "tokens"):
        table.add_column(heading, justify="right")
    for one in run.strategies:
        calls = f"{one.cost.calls / max(one.cost.items, 1):.2f}"
        tokens = f"{one.cost.tokens_each:.2f}"
        table.add_row(one.name, f"{one.accuracy:.1%}", between(one.interval), str(one.failed), calls, tokens)
    return Group(table, f"Calls and tokens are per question. Full report: colm-vl eval report {folder}")
