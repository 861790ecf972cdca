"""Writes a report's files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from colm_vl.errors import InputError

from ..items import Rule
from ..runs import labels, read_evaluation
from .content import document
from .document import Document, to_html, to_markdown
from .findings import as_json, findings


def write_report(runs: Sequence[Path], out: Path, lead: Rule = Rule.STRICT) -> list[Path]:
    """report.md, report.html (one file), report.json and the plots. Returns what was written.

    Raises `InputError` for a run that cannot be reported: none, given twice, or of a benchmark that others judge.
    """
    evaluations = [replace(read_evaluation(run), label=label) for run, label in zip(runs, labels(runs), strict=True)]
    for evaluation in evaluations:
        if not evaluation.benchmark.scored:
            raise InputError(
                f"{evaluation.label}: {evaluation.benchmark.title} is scored by its own judge",
                hint=f"give it the answer files of {evaluation.label}",
            )
        if lead not in evaluation.benchmark.rules:
            known = ", ".join(rule.value for rule in evaluation.benchmark.rules)
            raise InputError(f"{evaluation.benchmark.title} has no rule {lead.value!r}", hint=f"one of: {known}")
    found = [findings(evaluation, lead) for evaluation in evaluations]
    return write_document(document(found), out, {"runs": [as_json(one) for one in found]})


def write_document(content: Document, out: Path, data: object, name: str = "report") -> list[Path]:
    """Raises `InputError` for an `out` that is no folder, or cannot be one."""
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
