"""`evaluate`: a team on questions of your own, from Python."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from colm_vl import CoLM, Source, Team
from colm_vl.batch.questions import Questions
from colm_vl.errors import InputError

from .evaluator import plan, run
from .labelled import read_labelled
from .own_questions import OwnQuestions
from .report.frames import Report
from .report.pictures import Pictures
from .run_folder import read_evaluation


def evaluate(
    questions: Source,
    *,
    team: Team | str | Path | None,
    strategies: Sequence[str],
    metric: str,
    answer_column: str,
    group_columns: Sequence[str],
    columns: Mapping[str, str] | None,
    out: str | Path | None,
    concurrency: int,
    **policy: Any,
) -> Report:
    """See `colm_vl.evaluate`, which has the defaults."""
    if isinstance(strategies, str) or not strategies:
        raise InputError(f"strategies is {strategies!r}, expected a list of names", hint='such as ["vote", "colm"]')
    rows = Questions(questions, columns=columns).repeatable()
    labelled = read_labelled(
        rows, answer_column=answer_column, group_columns=group_columns, metric=metric, pictures=True
    )
    if labelled.problems:
        raise InputError("; ".join(labelled.problems), hint="correct these rows, or leave them out")
    members = team if isinstance(team, Team) else Team.load(team) if team else Team.pocket()
    chosen = members.with_policy(**policy, strategy=strategies[0])
    planned = plan(OwnQuestions(rows.name, labelled, rows), None)
    with ExitStack() as stack:
        folder = Path(out) if out else Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="colm-vl-")))
        colm = stack.enter_context(CoLM(chosen))
        for _ in run(colm, planned, strategies, folder, concurrency=concurrency):
            pass
        return Report.of(read_evaluation(folder), Pictures(lambda _: planned.questions))
