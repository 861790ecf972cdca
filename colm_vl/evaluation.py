"""`evaluate`, whose implementation is imported when it is called: it needs the packages of the extra `eval`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from colm_vl.batch import Source
from colm_vl.extras import part
from colm_vl.team import Team

if TYPE_CHECKING:
    from eval.report.frames import Report


def evaluate(
    questions: Source,
    *,
    team: Team | str | Path | None = None,
    strategies: Sequence[str] = ("vote", "colm"),
    metric: str = "",
    answer_column: str = "answer",
    group_columns: Sequence[str] = (),
    columns: Mapping[str, str] | None = None,
    out: str | Path | None = None,
    concurrency: int = 16,
    **policy: Any,
) -> Report:
    """Ask a team questions with gold answers, with each strategy, and compare the strategies.

    The same as `colm-vl eval run FILE` and `colm-vl eval report`. `questions` is a file, or `Query` objects with the
    gold answer in their metadata. `columns` maps fields to columns of other names, as in `CoLM.batch`. `team` is a team
    or its file, by default the pocket team. `metric` is a name from docs/metrics.md; by default the gold answer of each
    question decides. `out` is the run folder: the same call again resumes an interrupted run. Without it, the answers
    are not kept. Returns a report whose `results()`, `comparisons()`, `groups()`, `flips()`, `costs()` and `items()`
    are pandas frames. Needs the extra `eval`.

    Raises `InputError`, which names every row that cannot be used, before anyone is asked.
    """
    report: Report = part("eval.evaluate").evaluate(
        questions,
        team=team,
        strategies=strategies,
        metric=metric,
        answer_column=answer_column,
        group_columns=group_columns,
        columns=columns,
        out=out,
        concurrency=concurrency,
        **policy,
    )
    return report
