"""The sections of a report: which tables, plots and explanations it shows, in order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from colm_vl.types import STAGE_TITLES

from ..flips import CORRECTED, REGRESSED
from ..slug import slug
from ..statistics import PairedComparison
from ..tables import SMALL_SAMPLE, as_count, between, p_value, seconds_each
from ..types import DRAWN, Metric, Rule
from .document import Document, Heading, Part, Plot, Table, Text, Viewer
from .plots import accuracy_plot, cost_plot, flip_plot
from .skipping import skipping_parts
from .strategy import StrategySummary
from .summary import RunSummary
from .timing import time_parts
from .viewer import Shown

SIGNIFICANT = 0.05

_RULES: Mapping[Rule, str] = MappingProxyType(
    {
        Rule.STRICT: "the benchmark's parser; a reply that it cannot parse is wrong",
        Rule.OFFICIAL: "the benchmark's own rule, random choices included",
        Rule.LENIENT: "a more tolerant parser; a reply that it cannot parse is wrong",
        Rule.LLAVA: "the rule of LLaVA's authors",
    }
)


def document(runs: Sequence[RunSummary], questions: Sequence[Shown]) -> Document:
    """`questions` are those to look through, of each run."""
    several = len(runs) > 1
    parts: list[Part] = []
    for number, (run, looked_through) in enumerate(zip(runs, questions, strict=True), 1):
        parts += _of_run(run, named=several)
        parts += _questions(run, looked_through, number, named=several)
    title = "Evaluation: " + ", ".join(run.label for run in runs)
    return Document(title if several else f"{runs[0].title}: does collaboration help?", tuple(parts))


def _of_run(run: RunSummary, *, named: bool) -> Iterator[Part]:
    prefix = f"{run.label}: " if named else ""
    split = f", split {run.split}" if run.split else ""
    rule = f" Rule: {run.rule.value} ({_RULES[run.rule]})." if len(run.rules) > 1 else ""
    yield Text(f"{prefix}{run.title}{split}, {run.items} questions.{rule} Team: {'; '.join(run.members)}.")
    if run.unscored:
        yield Text(f"Not scored: {run.unscored} questions without a gold answer.")
    yield from (Text(f"Note: {note}") for note in run.notes)
    yield Heading(prefix + "Results")
    yield from _results(run, prefix)
    yield Heading(prefix + "Paired comparisons")
    yield from _comparisons(run)
    yield Heading(prefix + "Corrected and regressed answers")
    yield from _flips(run, prefix)
    yield Heading(prefix + "Answers compared with the drafts")
    yield from _oracle(run)
    yield Heading(prefix + "Costs")
    yield from _costs(run, prefix)
    yield Heading(prefix + "Time")
    yield from time_parts(run.time, _file(run, prefix, "time"))
    if run.skipping:
        yield Heading(prefix + "Skipping the server")
        yield from skipping_parts(run.skipping, _file(run, prefix, "skipping"))
    yield Heading(prefix + "By category")
    yield from _groups(run)
    yield Heading(prefix + "How replies were parsed")
    yield from _parsed(run)


def _questions(run: RunSummary, found: Shown, number: int, *, named: bool) -> Iterator[Part]:
    if not found.data["items"]:
        return
    yield Heading(f"{run.label}: Questions" if named else "Questions")
    if found.told:
        yield Text(found.told)
    yield Viewer(f"questions-{number}" if named else "questions", found.data)


def _results(run: RunSummary, prefix: str) -> Iterator[Part]:
    others = [rule for rule in run.rules if rule is not run.rule]
    head = ("strategy", run.rule.value, "95 % interval", "correct", *(rule.value for rule in others), "no answer")
    best = max(one.accuracy for one in run.strategies)
    rows = tuple(
        (
            one.name,
            f"{one.accuracy:.1%}",
            between(one.interval),
            f"{as_count(sum(one.grades.values()))} of {len(one.grades)}",
            *(_shown(one.results[rule].overall) for rule in others),
            str(one.failed),
        )
        for one in run.strategies
    )
    yield Table(head, rows, frozenset(index for index, one in enumerate(run.strategies) if one.accuracy == best))
    for one in run.strategies:
        results = one.results[run.rule]
        if results.missing:
            yield Text(
                f"{one.name} is incomplete: {len(results.scores)} of {run.items - run.unscored} questions answered "
                f"({results.coverage:.1%}). Its figures cover only these."
            )
    names = [one.name for one in run.strategies]
    plot = accuracy_plot(names, [one.accuracy for one in run.strategies], [one.interval for one in run.strategies])
    yield Plot(_file(run, prefix, "accuracy"), plot, "Accuracy of each strategy with its 95 % interval")


def _comparisons(run: RunSummary) -> Iterator[Part]:
    if not run.comparisons:
        yield Text("There is only one strategy, so there is nothing to compare.")
        return
    yield from comparison_parts(run.comparisons, partial_credit=run.partial_credit)


def comparison_parts(comparisons: Sequence[PairedComparison], *, partial_credit: bool) -> Iterator[Part]:
    yield Text(
        "On the questions that both answered: the difference in accuracy with its interval "
        f"({'paired t-test' if partial_credit else 'bootstrap'}), the number of questions that the first or the "
        f"second of the two answered better, p ({'paired t-test' if partial_credit else 'McNemar, exact'}), and p "
        "adjusted for all comparisons in this table (Holm)."
    )
    head = (
        "comparison",
        "questions",
        "difference",
        "95 % interval",
        "first better",
        "second better",
        "p",
        "p adjusted",
    )
    rows = tuple(
        (
            f"{pair.one} vs. {pair.other}",
            str(pair.items),
            f"{100 * pair.difference:+.1f}",
            f"{100 * pair.interval.low:+.1f} to {100 * pair.interval.high:+.1f}",
            str(pair.wins),
            str(pair.losses),
            p_value(pair.p),
            p_value(pair.p_adjusted),
        )
        for pair in comparisons
    )
    significant = (index for index, pair in enumerate(comparisons) if pair.p_adjusted < SIGNIFICANT)
    yield Table(head, rows, frozenset(significant))
    yield Text(f"Bold: adjusted p below {SIGNIFICANT}. Differences are in percentage points.")


def _flips(run: RunSummary, prefix: str) -> Iterator[Part]:
    refined = [one for one in run.strategies if one.flips]
    if not refined:
        yield Text("No strategy of this run lets clients refine their answers.")
        return
    yield Text(f"{CORRECTED} {REGRESSED} A stage that changes many answers can do both.")
    head = ("client", "corrected", "regressed", "wrong → other wrong", "kept correct", "kept wrong")
    for one in refined:
        yield Text(f"{one.name}:")
        rows = tuple(
            (
                f"{row.client}, round {row.round}",
                f"{row.corrected} ({row.corrected_rate:.1%})",
                f"{row.regressed} ({row.regressed_rate:.1%})",
                str(row.changed_wrong),
                str(row.kept_correct),
                str(row.kept_wrong),
            )
            for row in one.flips
        )
        yield Table(head, rows, frozenset(index for index, row in enumerate(one.flips) if row.client == "all"))
        yield Plot(_file(run, prefix, f"flips-{one.name}"), flip_plot(one.flips), f"Answers changed in {one.name}")


def _oracle(run: RunSummary) -> Iterator[Part]:
    yield Text(
        "Any draft correct: the accuracy of a perfect choice among the drafts. Found: the number of questions answered "
        "correctly although no draft was correct. Missed: a draft was correct, the answer is not."
    )
    head = ("strategy", "answer correct", "any draft correct", "all drafts correct", "found", "missed")
    rows = tuple(
        (
            one.name,
            *(
                f"{count / one.oracle.items:.1%}"
                for count in (one.oracle.correct, one.oracle.any_correct, one.oracle.all_correct)
            ),
            str(one.oracle.found),
            str(one.oracle.missed),
        )
        for one in run.strategies
        if one.oracle.items
    )
    yield Table(head, rows)


def _costs(run: RunSummary, prefix: str) -> Iterator[Part]:
    yield Text(
        "Costs are per question and as if each strategy had been run alone: a shared draft counts for every strategy "
        "that uses it. Seconds are the sum of the model calls' durations; – means that an earlier run made a call and "
        "its journal is gone. Server calls skipped: how often a gate skipped the server."
    )
    head = (
        "strategy",
        "calls",
        "server calls",
        "server calls skipped",
        "prompt tokens",
        "cached tokens",
        "completion tokens",
        "KB sent",
        "seconds",
    )
    rows = tuple((one.name, *_cost_cells(one)) for one in run.strategies)
    yield Table(head, rows, frozenset(index for index, one in enumerate(run.strategies) if one.name in run.front))
    yield Text(
        "Bold: on the Pareto front of tokens and accuracy. Cached tokens are included in prompt tokens and count in "
        "full, because how many are cached depends on earlier requests."
    )
    yield from _prefetching(run)
    stages = [stage for stage in STAGE_TITLES if any(stage in one.cost.seconds for one in run.strategies)]
    yield Table(
        ("seconds per question", *(STAGE_TITLES[stage] for stage in stages)),
        tuple(
            (one.name, *(seconds_each(one.cost.seconds.get(stage, 0.0), one.cost.items) for stage in stages))
            for one in run.strategies
        ),
    )
    plot = cost_plot([one.point for one in run.strategies], "tokens per question")
    yield Plot(_file(run, prefix, "cost"), plot, "Accuracy against tokens per question")


def _prefetching(run: RunSummary) -> Iterator[Part]:
    """What prefetches cost that were not needed."""
    ahead = [(one.name, one.cost.prefetching) for one in run.strategies if one.cost.prefetching.questions]
    if not ahead:
        return
    yield Text(
        "Prefetches are calls, but not server calls. Not needed: the server was not asked for guidance afterwards, and "
        "had read these tokens in vain. Stopped: not needed and not finished, so its tokens are not known."
    )
    head = ("strategy", "prefetches", "not needed", "tokens read in vain", "stopped")
    yield Table(
        head,
        tuple(
            (name, str(found.questions), str(found.wasted), f"{found.wasted_tokens:,}", str(found.stopped))
            for name, found in ahead
        ),
    )


def _cost_cells(one: StrategySummary) -> tuple[str, ...]:
    cost, items = one.cost, max(one.cost.items, 1)
    return (
        f"{cost.calls / items:.2f}",
        f"{cost.server_calls / items:.2f}",
        str(cost.skipped),
        f"{cost.prompt_tokens / items:.0f}",
        f"{cost.cached_tokens / items:.0f}",
        f"{cost.completion_tokens / items:.0f}",
        f"{cost.bytes / items / 1000:.1f}",
        seconds_each(cost.total_seconds, items),
    )


def _groups(run: RunSummary) -> Iterator[Part]:
    by_strategy = {one.name: {(m.group, m.name): m for m in one.results[run.rule].metrics} for one in run.strategies}
    keys = list(dict.fromkeys(key for metrics in by_strategy.values() for key in metrics))
    rows = []
    for key in keys:
        metrics = [metrics.get(key) for metrics in by_strategy.values()]
        total = max(metric.total for metric in metrics if metric)
        few = " (few)" if total < SMALL_SAMPLE else ""
        rows.append((key[1], f"{total}{few}", *(_with_interval(metric) if metric else "–" for metric in metrics)))
    yield Table(("category", "questions", *by_strategy), tuple(rows), frozenset({0}))
    yield Text(f"In parentheses: the 95 % interval in percent. Few: fewer than {SMALL_SAMPLE} questions.")


def _with_interval(metric: Metric) -> str:
    if metric.points is not None:
        return _shown(metric)
    return f"{_shown(metric)} ({100 * metric.interval.low:.0f}–{100 * metric.interval.high:.0f})"


def _parsed(run: RunSummary) -> Iterator[Part]:
    everything = [results for one in run.strategies for results in one.results.values()]
    ways = list(dict.fromkeys(how for results in everything for how in results.parsed_by))
    rows = tuple(
        (f"{one.name}, {rule.value}", *(str(results.parsed_by.get(how, 0)) for how in ways))
        for one in run.strategies
        for rule, results in one.results.items()
    )
    yield Table(("strategy, rule", *ways), rows)
    if any(results.rule is Rule.OFFICIAL and DRAWN in results.parsed_by for results in everything):
        yield Text("Drawn: the official rule makes a seeded random choice for a reply that it cannot parse.")


def _shown(metric: Metric) -> str:
    return f"{metric.points:.1f}" if metric.points is not None else f"{metric.accuracy:.1%}"


def _file(run: RunSummary, prefix: str, name: str) -> str:
    return slug(f"{run.label}-{name}" if prefix else name) + ".png"
