"""Writes the files of a report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from colm_vl.errors import InputError

from ..run_folder import labels, read_evaluation
from ..types import Rule
from .document import Document, to_html, to_markdown
from .pictures import Pictures
from .sections import document
from .summary import as_json, summarize
from .viewer import ITEMS, shown


def write_report(runs: Sequence[Path], out: Path, rule: Rule = Rule.STRICT, items: int = ITEMS) -> list[Path]:
    """Write report.md, report.html (one file), report.json and the plots, and return their paths. At most `items`
    questions of each run can be looked through.

    Raises `InputError` for a folder without answers, a folder given twice, and a benchmark that is not scored here or
    does not have the rule.
    """
    evaluations = [replace(read_evaluation(run), label=label) for run, label in zip(runs, labels(runs), strict=True)]
    for evaluation in evaluations:
        if not evaluation.benchmark.scored:
            raise InputError(
                f"{evaluation.label}: {evaluation.benchmark.title} is scored by its own judge",
                hint=f"give it the answer files of {evaluation.label}",
            )
        if rule not in evaluation.benchmark.rules:
            known = ", ".join(rule.value for rule in evaluation.benchmark.rules)
            raise InputError(f"{evaluation.benchmark.title} has no rule {rule.value!r}", hint=f"one of: {known}")
    summaries = [summarize(evaluation, rule) for evaluation in evaluations]
    questions = [
        shown(evaluation, summary, Pictures.of_run(evaluation), items)
        for evaluation, summary in zip(evaluations, summaries, strict=True)
    ]
    return write_document(document(summaries, questions), out, {"runs": [as_json(one) for one in summaries]})


def write_document(content: Document, out: Path, data: object, name: str = "report") -> list[Path]:
    """Write a document as Markdown and HTML with its plots, and `data` as JSON. Raises `InputError` if `out` cannot be
    written to."""
    files = {
        f"{name}.md": to_markdown(content).encode(),
        f"{name}.html": to_html(content).encode(),
        f"{name}.json": (json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode(),
        **{plot.name: plot.png for plot in content.plots},
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, text in files.items():
            (out / file).write_bytes(text)
    except OSError as error:
        raise InputError(f"{out}: cannot be written to ({error.strerror})", hint="choose another --out") from None
    return [out / file for file in files]
