"""From findings to a document: what is said, in which order, and what is said against reading too much into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from ..items import Figure, Rule
from ..names import slug
from ..show import SMALL, seconds_each
from ..statistics import wilson
from .document import Document, Grid, Heading, Part, Plot, Text
from .findings import Findings, StrategyFindings
from .plots import accuracy_plot, cost_plot, flip_plot

SIGNIFICANT = 0.05

_RULES: Mapping[Rule, str] = MappingProxyType(
    {
        Rule.STRICT: "what the benchmark's reader cannot read is wrong",
        Rule.OFFICIAL: "the benchmark's own, its draws included",
        Rule.LENIENT: "a better reader than the benchmark's; what it cannot read is wrong",
        Rule.LLAVA: "the variant of LLaVA's authors",
    }
)


def document(reports: Sequence[Findings]) -> Document:
    several = len(reports) > 1
    parts = [part for found in reports for part in _of_run(found, named=several)]
    title = reports[0].title if not several else "Evaluation: " + ", ".join(found.label for found in reports)
    return Document(title if several else f"{title}: does collaborating help?", tuple(parts))


def _of_run(found: Findings, *, named: bool) -> Iterator[Part]:
    prefix = f"{found.label}: " if named else ""
    yield Text(
        f"{prefix}{found.title}, split {found.split}, {found.items} questions. Rule: {found.lead.value} "
        f"({_RULES[found.lead]}). Team: {'; '.join(found.members)}."
    )
    yield Heading(prefix + "Results")
    yield from _results(found, prefix)
    yield Heading(prefix + "Against each other, on the same questions")
    yield from _comparisons(found)
    yield Heading(prefix + "Who changed what: the flip ledger")
    yield from _ledger(found, prefix)
    yield Heading(prefix + "What the drafts already knew")
    yield from _oracle(found)
    yield Heading(prefix + "Costs")
    yield from _costs(found, prefix)
    yield Heading(prefix + "By part of the benchmark")
    yield from _groups(found)
    yield Heading(prefix + "How the answers were read")
    yield from _read(found)


def _results(found: Findings, prefix: str) -> Iterator[Part]:
    others = [rule for rule in found.strategies[0].tables if rule is not found.lead]
    head = ("strategy", found.lead.value, "95 % interval", "right", *(rule.value for rule in others), "no answer")
    best = max(one.accuracy for one in found.strategies)
    rows, strong = [], set()
    for index, one in enumerate(found.strategies):
        right, asked = sum(one.right.values()), len(one.right)
        rows.append(
            (
                one.name,
                f"{one.accuracy:.1%}",
                f"{one.interval.low:.1%} to {one.interval.high:.1%}",
                f"{right} of {asked}",
                *(_shown(one.tables[rule].overall) for rule in others),
                str(one.failed),
            )
        )
        if one.accuracy == best:
            strong.add(index)
    yield Grid(head, tuple(rows), frozenset(strong))
    yield from (Text(text) for text in _coverage(found))
    names = [one.name for one in found.strategies]
    plot = accuracy_plot(names, [one.accuracy for one in found.strategies], [one.interval for one in found.strategies])
    yield Plot(_file(found, prefix, "accuracy"), plot, "Accuracy of each strategy with its 95 % interval")


def _coverage(found: Findings) -> Iterator[str]:
    for one in found.strategies:
        table = one.tables[found.lead]
        if table.missing:
            yield (
                f"{one.name} is partial: {len(table.scores)} of {found.items} questions answered "
                f"({table.coverage:.1%}); its figures are over these."
            )


def _comparisons(found: Findings) -> Iterator[Part]:
    if not found.comparisons:
        yield Text("One strategy only: nothing to compare.")
        return
    yield Text(
        "Difference in accuracy with its bootstrap interval, questions that only the one or only the other has right, "
        "McNemar's exact test, and its p adjusted for all comparisons of this table (Holm)."
    )
    head = ("comparison", "difference", "95 % interval", "only first", "only second", "p", "p adjusted")
    rows, strong = [], set()
    for index, pair in enumerate(found.comparisons):
        rows.append(
            (
                f"{pair.one} against {pair.other}",
                f"{100 * pair.difference:+.1f}",
                f"{100 * pair.interval.low:+.1f} to {100 * pair.interval.high:+.1f}",
                str(pair.gained),
                str(pair.lost),
                _p(pair.p),
                _p(pair.p_adjusted),
            )
        )
        if pair.p_adjusted < SIGNIFICANT:
            strong.add(index)
    yield Grid(head, tuple(rows), frozenset(strong))
    yield Text(f"Bold: adjusted p below {SIGNIFICANT}. Differences are in percentage points.")


def _ledger(found: Findings, prefix: str) -> Iterator[Part]:
    refined = [one for one in found.strategies if one.flips]
    if not refined:
        yield Text("No strategy of this run lets clients refine their answers.")
        return
    yield Text(
        "Of the questions a client had wrong (previously failed queries), the share that was put right; beside it the "
        "share of right ones that was spoilt. Both count: a stage that changes much can look like one that helps."
    )
    head = (
        "client",
        "wrong → right",
        "right → wrong",
        "wrong → other",
        "kept right",
        "kept wrong",
        "put right",
        "spoilt",
    )
    for one in refined:
        yield Text(f"{one.name}:")
        rows = tuple(
            (
                f"{row.client}, round {row.round}",
                str(row.fixed),
                str(row.spoilt),
                str(row.moved),
                str(row.kept_right),
                str(row.kept_wrong),
                f"{row.fixed_share:.1%}",
                f"{row.spoilt_share:.1%}",
            )
            for row in one.flips
        )
        yield Grid(head, rows, frozenset(index for index, row in enumerate(one.flips) if row.client == "all"))
        yield Plot(_file(found, prefix, f"flips-{one.name}"), flip_plot(one.flips), f"Answers changed in {one.name}")


def _oracle(found: Findings) -> Iterator[Part]:
    yield Text(
        "Any draft right is what a perfect chooser among the drafts would reach. Found: right although no draft was. "
        "Missed: a draft was right and the answer is not."
    )
    head = ("strategy", "answer right", "any draft right", "all drafts right", "found", "missed")
    rows = tuple(
        (
            one.name,
            *(
                f"{count / one.oracle.items:.1%}"
                for count in (one.oracle.right, one.oracle.any_right, one.oracle.all_right)
            ),
            str(one.oracle.found),
            str(one.oracle.missed),
        )
        for one in found.strategies
        if one.oracle.items
    )
    yield Grid(head, rows)


def _costs(found: Findings, prefix: str) -> Iterator[Part]:
    yield Text(
        "For each question, as if the strategy had been run by itself: shared drafts count for each. Seconds are of "
        "the model calls one after the other; – where a call was made by an earlier run whose journal is gone."
    )
    head = ("strategy", "calls", "server calls", "avoided", "prompt", "cached", "written", "KB sent", "seconds")
    rows = tuple((one.name, *_cost_cells(one)) for one in found.strategies)
    yield Grid(head, rows, frozenset(i for i, one in enumerate(found.strategies) if one.name in found.front))
    yield Text(
        "Bold: on the Pareto front of tokens and accuracy. Prompt, cached and written are tokens a question. Cached "
        "ones are part of the prompt, and count like the others: how many there are depends on what was asked before."
    )
    stages = list(dict.fromkeys(stage for one in found.strategies for stage in one.cost.seconds))
    yield Grid(
        ("seconds a question", *stages),
        tuple(
            (one.name, *(seconds_each(one.cost.seconds.get(stage, 0.0), one.cost.items) for stage in stages))
            for one in found.strategies
        ),
    )
    plot = cost_plot([one.point for one in found.strategies], "tokens a question")
    yield Plot(_file(found, prefix, "cost"), plot, "Accuracy over tokens")


def _cost_cells(one: StrategyFindings) -> tuple[str, ...]:
    cost, items = one.cost, max(one.cost.items, 1)
    return (
        f"{cost.calls / items:.2f}",
        f"{cost.server_calls / items:.2f}",
        str(cost.avoided),
        f"{cost.prompt_tokens / items:.0f}",
        f"{cost.cached_tokens / items:.0f}",
        f"{cost.completion_tokens / items:.0f}",
        f"{cost.bytes / items / 1000:.1f}",
        seconds_each(cost.total_seconds, items),
    )


def _groups(found: Findings) -> Iterator[Part]:
    tables = {one.name: {(f.group, f.name): f for f in one.tables[found.lead].figures} for one in found.strategies}
    keys = list(dict.fromkeys(key for figures in tables.values() for key in figures))
    rows = []
    for key in keys:
        figures = [figures.get(key) for figures in tables.values()]
        asked = max(figure.asked for figure in figures if figure)
        interval = wilson(round(asked / 2), asked)
        rows.append(
            (
                key[1],
                str(asked),
                *(_shown(figure) if figure else "–" for figure in figures),
                f"±{50 * (interval.high - interval.low):.0f}" + (" few" if asked < SMALL else ""),
            )
        )
    yield Grid(("part", "asked", *tables, "at 50 %"), tuple(rows), frozenset({0}))
    if any(row[-1].endswith("few") for row in rows):
        yield Text(
            f"Few: under {SMALL} questions. The last column is how far, in percentage points, a share of 50 % may be "
            "off either way by chance alone: with 30 questions about 17. Smaller differences between parts say nothing."
        )


def _read(found: Findings) -> Iterator[Part]:
    ways = list(dict.fromkeys(how for one in found.strategies for table in one.tables.values() for how in table.read))
    rows = tuple(
        (f"{one.name}, {rule.value}", *(str(table.read.get(how, 0)) for how in ways))
        for one in found.strategies
        for rule, table in one.tables.items()
    )
    yield Grid(("strategy, rule", *ways), rows)
    if any(Rule.OFFICIAL in one.tables and one.tables[Rule.OFFICIAL].read.get("drawn") for one in found.strategies):
        yield Text("Drawn: the official rule takes a seeded random choice where it cannot read the reply.")


def _shown(figure: Figure) -> str:
    return f"{figure.points:.1f}" if figure.points is not None else f"{figure.accuracy:.1%}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _file(found: Findings, prefix: str, name: str) -> str:
    return slug(f"{found.label}-{name}" if prefix else name) + ".png"
