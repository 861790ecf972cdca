"""Measure the accuracy of the pocket team: `python -m colm_vl.pocket.measure`. Needs the extras `local` and `eval`."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from typing_extensions import override

from colm_vl import CoLM
from colm_vl.answers import same
from colm_vl.extras import require
from colm_vl.pocket import doubt, team_file, world
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.world import Sample
from colm_vl.types import ClientReply, Query, Trace, Verdict
from processors.images import Image

STRATEGIES = ("server", "vote", "concat", "colm")
FRESH_SEED = 20_261_124

app = typer.Typer(add_completion=False)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """`correct` of `total`, with the 95 % Wilson interval."""

    correct: int
    total: int

    @property
    def value(self) -> float:
        return self.correct / self.total if self.total else math.nan

    @override
    def __str__(self) -> str:
        if not self.total:
            return _percent(self.value)
        test = require("scipy.stats", "eval").binomtest(self.correct, self.total)
        low, high = test.proportion_ci(0.95, method="wilson")
        return f"{_percent(self.value)} [{_percent(low)}, {_percent(high)}]"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.1%}".replace("%", " %")


@dataclass(slots=True)
class Sheet:
    """Whether each question was answered correctly: `results[row][question id]`; `domains[question id]`."""

    domains: dict[str, str] = field(default_factory=dict)
    results: dict[str, dict[str, bool]] = field(default_factory=lambda: defaultdict(dict))

    def accuracy(self, row: str, domain: str | None = None) -> Accuracy:
        kept = [one for key, one in self.results[row].items() if domain is None or self.domains[key] == domain]
        return Accuracy(sum(kept), len(kept))


def measure(samples: Iterable[Sample], team: Path | None = None, concurrency: int = 64) -> Sheet:
    """Ask the team every question with every strategy. Drafts are made once."""
    wanted = {sample.id: sample for sample in samples}
    sheet = Sheet({key: sample.domain for key, sample in wanted.items()})
    with CoLM.from_team(team or team_file()) as colm:
        source = [_query(sample) for sample in wanted.values()]
        for trace in colm.batch(source, strategy=STRATEGIES, concurrency=concurrency):
            _enter(sheet, wanted[trace.id], trace)
    return sheet


def table(sheet: Sheet) -> Iterator[str]:
    """Markdown tables of accuracies by domain and member, and what refinement changed."""
    rows = [row for row in sheet.results if row.startswith(("alone ", "settled "))]
    yield "| | all | " + " | ".join(DOMAINS) + " |"
    yield "|---" * (len(DOMAINS) + 2) + "|"
    for row in rows + [row for row in sheet.results if row not in rows]:
        by_domain = " | ".join(_percent(sheet.accuracy(row, domain).value) for domain in DOMAINS)
        yield f"| {row} | {sheet.accuracy(row)} | {by_domain} |"
    yield ""
    yield from _changes(sheet)


def _changes(sheet: Sheet) -> Iterator[str]:
    for strategy in ("concat", "colm"):
        before: dict[str, bool] = {}
        after: dict[str, bool] = {}
        for row, results in sheet.results.items():
            name = row.removeprefix(f"{strategy}: ")
            if name != row:
                before |= {f"{name} {key}": sheet.results[f"alone {name}"][key] for key in results}
                after |= {f"{name} {key}": correct for key, correct in results.items()}
        if not after:
            continue
        wrong = [key for key, correct in before.items() if not correct]
        corrected = Accuracy(sum(after[key] for key in wrong), len(wrong))
        regressed = Accuracy(sum(not after[key] for key in after if before[key]), sum(before.values()))
        alone, later = (Accuracy(sum(answers.values()), len(answers)) for answers in (before, after))
        yield f"- {strategy}: the clients' mean is {alone} alone and {later} afterwards"
        yield f"- {strategy}: corrected {corrected} of the wrong answers, regressed {regressed} of the correct ones"


def _query(sample: Sample) -> Query:
    return Query(sample.question, tuple(Image.open(picture) for picture in sample.pictures), sample.choices, sample.id)


def _enter(sheet: Sheet, sample: Sample, trace: Trace) -> None:
    if trace.strategy == "vote":
        _enter_replies(sheet, sample, "alone {}", {draft.client: draft for draft in trace.drafts})
    if trace.strategy == "server":
        _enter_replies(sheet, sample, "alone {}", {"server": trace.verdict} if trace.verdict else {})
    else:
        sheet.results[f"settled by {trace.strategy}"][sample.id] = _is_correct(sample, trace.choice, trace.answer)
    if trace.strategy in ("concat", "colm"):
        _enter_replies(sheet, sample, trace.strategy + ": {}", trace.final)


def _enter_replies(sheet: Sheet, sample: Sample, row: str, replies: Mapping[str, ClientReply | Verdict]) -> None:
    for name, reply in replies.items():
        sheet.results[row.format(name)][sample.id] = _is_correct(sample, reply.choice, reply.answer)


def _is_correct(sample: Sample, choice: str | None, answer: str) -> bool:
    return choice == sample.answer if sample.choices else same(answer, sample.answer)


@app.command()
def main(
    team: Annotated[Path | None, typer.Option(help="A team file; by default the pocket team.")] = None,
    n: Annotated[int, typer.Option(min=1, help="Use the first N questions of the fixed test set.")] = world.TEST_SIZE,
    fresh: Annotated[int, typer.Option(min=0, help="Number of fresh questions in addition.")] = 400,
    seed: Annotated[int, typer.Option(help="The seed of the fresh questions.")] = FRESH_SEED,
    doubts: Annotated[
        int,
        typer.Option(
            "--doubt", min=0, max=world.TEST_SIZE, help="Measure doubt with N questions of each kind instead."
        ),
    ] = 0,
) -> None:
    """Ask the pocket team the questions of the test set and fresh ones, and print accuracy tables as Markdown.

    The tables list each client and the server alone, a vote, concat and colm, by domain, with 95 % Wilson intervals.
    With `--doubt`, they list how confident it is about its world, other wordings, outside pictures and easy-VQA.
    """
    logging.basicConfig(level=logging.WARNING)
    if doubts:
        for line in doubt.table(doubt.measure(doubts, team)):
            typer.echo(line)
        return
    for title, samples in (
        (f"Test set, {n} questions", world.split("test", n)),
        (f"Seed {seed}, {fresh} questions", world.generate(seed, fresh)),
    ):
        chosen = list(samples)
        if chosen:
            typer.echo(f"\n### {title}\n")
            for line in table(measure(chosen, team)):
                typer.echo(line)


if __name__ == "__main__":
    app()
