"""Displays the progress of a batch: progress bars in a terminal, otherwise a line of text every few seconds."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from colm_vl.batch.folder import ANSWERS
from colm_vl.batch.merging import MergedShards
from colm_vl.batch.planning import Plan
from colm_vl.batch.stats import BatchStats
from colm_vl.display import clean
from colm_vl.types import STAGE_TITLES, Stage

REFRESH_SECONDS = 0.25
LINE_SECONDS = 10.0
_SHOWN = 20


class BatchProgress:
    """Displays the counts of a running batch. `plan` gives the expected number of calls of each stage."""

    def __init__(self, console: Console, stats: BatchStats, plan: Plan) -> None:
        self._console = console
        self._stats = stats
        self._plan = plan
        self._begun = time.monotonic()
        self._told = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_showing, name="progress", daemon=True)
        self._bars = _Bars(console, plan) if console.is_terminal else None

    def __enter__(self) -> BatchProgress:
        if self._bars:
            self._bars.progress.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self._show()
        if self._bars:
            self._bars.progress.stop()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def _keep_showing(self) -> None:
        while not self._over.wait(REFRESH_SECONDS if self._bars else LINE_SECONDS):
            self._show()

    def _show(self) -> None:
        for note in self._stats.notes[self._told :]:
            self._console.print(Text(f"note: {clean(note)}", style="yellow"))
            self._told += 1
        if self._bars:
            self._bars.update(self._stats, rates(self._stats, self.seconds))
        else:
            total = self._stats.total or self._plan.questions * len(self._plan.strategies)
            done = self._stats.over
            self._console.print(
                f"{done} of {total} done, {rates(self._stats, self.seconds)}, {self._left(done, total)}"
            )

    def _left(self, done: int, total: int) -> str:
        new = done - self._stats.kept
        if done >= total:
            return f"{self.seconds:.0f} s"
        return f"about {self.seconds / new * (total - done):.0f} s left" if new else "time left unknown"


class _Bars:
    def __init__(self, console: Console, plan: Plan) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
        )
        self._questions = self.progress.add_task("answers", total=plan.questions * len(plan.strategies), note="")
        self._stages: dict[Stage, TaskID] = {
            stage: self.progress.add_task(title.lower(), total=plan.of_stage(stage), note="")
            for stage, title in STAGE_TITLES.items()
            if plan.of_stage(stage)
        }

    def update(self, stats: BatchStats, rates: str) -> None:
        self.progress.update(self._questions, completed=stats.over, total=stats.total, note=rates)
        for stage, bar in self._stages.items():
            count = stats.stage(stage)
            failed = f"{count.failed} failed" if count.failed else ""
            self.progress.update(bar, completed=count.over, note=failed)


def rates(stats: BatchStats, seconds: float) -> str:
    """Questions and tokens per second, calls made and avoided, and failures."""
    new = stats.answered + stats.failed
    tokens = stats.usage.prompt_tokens + stats.usage.completion_tokens
    parts = [
        f"{new / max(seconds, 1e-6):.1f} questions/s",
        f"{tokens / max(seconds, 1e-6):,.0f} tokens/s",
        f"{stats.calls:,} calls",
        f"{stats.avoided:,} avoided",
        f"{stats.failed:,} failed",
    ]
    return ", ".join(parts)


def batch_summary(stats: BatchStats, seconds: float) -> str:
    """The result of a batch in a few lines."""
    asked = stats.over if stats.total is None else stats.total
    lines = [f"{stats.kept + stats.answered:,} of {asked:,} answered, {stats.failed:,} failed"]
    if stats.degraded:
        lines[0] += f"; {stats.degraded:,} degraded by failed calls"
    if stats.kept:
        lines.append(f"from an earlier run: {stats.kept:,}")
    usage = stats.usage
    lines.append(
        f"{stats.calls:,} calls made, {stats.avoided:,} avoided, "
        f"{usage.prompt_tokens:,} + {usage.completion_tokens:,} tokens, {seconds:.1f} s"
    )
    return "\n".join(lines)


def plan_summary(plan: Plan, finished: int) -> str:
    """The result of a dry run. `finished` is the number of answers that are already in the folder."""
    unusable = f", {plan.unusable:,} of them unusable" if plan.unusable else ""
    lines = [f"{plan.questions:,} questions{unusable}; strategies: {', '.join(plan.strategies)}"]
    lines += [f"  {call.stage:8}{clean(call.member):16}{count:>10,} calls" for call, count in plan.calls.items()]
    lines.append(f"at most {plan.total:,} calls")
    lines.append(f"about {plan.usage.prompt_tokens:,} prompt tokens and {plan.usage.completion_tokens:,} reply tokens")
    if finished:
        lines.append(f"answered already: {finished:,} (their calls are not repeated)")
    return "\n".join(lines)


def merge_summary(merged: MergedShards) -> str:
    """The result of a merge in a few lines."""
    lines = [f"note: {clean(note)}" for note in merged.notes]
    lines.append(f"{merged.answered:,} answered, {merged.failed:,} failed: {merged.folder / ANSWERS}")
    if merged.missing is None:
        lines.append("no shard has come to the end of the questions, so it is unknown how many are missing")
    elif merged.missing:
        lines.append(f"{merged.missing:,} questions are missing")
    if merged.unfinished:
        shown = ", ".join(merged.unfinished[:_SHOWN])
        more = f" and {len(merged.unfinished) - _SHOWN} more" if len(merged.unfinished) > _SHOWN else ""
        lines.append(f"not finished: shards {shown}{more}; run them again, then merge again")
    return "\n".join(lines)
