"""The document that `eval compare` shows: accuracies, paired comparisons, and the questions answered differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..conditions import Finding
from ..statistics import mean_interval
from ..tables import as_count, between
from ..types import Item, Score
from .comparison import Change, ComparedPair, Comparison
from .document import Document, Heading, Part, Table, Text
from .sections import comparison_parts


def document(comparison: Comparison, findings: Sequence[Finding], listed: int, rest: str) -> Document:
    """At most `listed` questions for each pair; `rest` says where all of them are."""
    title = " and ".join(comparison.runs.values()) or "strategies"
    return Document(f"{comparison.title}: {title} compared", tuple(_parts(comparison, findings, listed, rest)))


def _parts(comparison: Comparison, findings: Sequence[Finding], listed: int, rest: str) -> Iterator[Part]:
    split = f", split {comparison.split}" if comparison.split else ""
    runs = "".join(f" {letter} is {label}." for letter, label in comparison.runs.items())
    yield Text(f"{comparison.benchmark}{split}, rule {comparison.rule.value}.{runs}")
    yield from _left_out(comparison)
    yield Table(
        ("answers", "accuracy", "95 % interval", "correct"),
        tuple(
            (
                name,
                f"{one.accuracy:.1%}",
                between(mean_interval(list(one.grades.values()))),
                f"{as_count(sum(one.grades.values()))} of {len(one.grades)}",
            )
            for name, one in comparison.answers.items()
        ),
    )
    if comparison.pairs:
        yield Heading("Paired comparisons")
        yield from comparison_parts(
            [pair.comparison for pair in comparison.pairs], partial_credit=comparison.partial_credit
        )
    for pair in comparison.pairs:
        yield Heading(f"{pair.comparison.one} vs. {pair.comparison.other}: questions answered differently")
        yield from _changes(pair, listed, rest)
    if findings:
        yield Heading("Conditions")
        yield Table(
            ("condition", "left, %", "right, %", "questions", "holds"),
            tuple(
                (one.condition, f"{one.left:.2f}", f"{one.right:.2f}", str(one.questions), "yes" if one.held else "no")
                for one in findings
            ),
        )


def _left_out(comparison: Comparison) -> Iterator[Part]:
    for letter, ids in comparison.only.items():
        if ids:
            yield Text(f"Only {letter} has {len(ids)} questions, which are left out; the first: {ids[0]}.")
    if others := comparison.other_pictures:
        yield Text(f"The pictures of {len(others)} questions are not the same in both; the first: {others[0]}.")
    if comparison.unpaired and comparison.pairs:
        yield Text(f"In no comparison: {', '.join(comparison.unpaired)}.")


def _changes(pair: ComparedPair, listed: int, rest: str) -> Iterator[Part]:
    graded = [change for change in pair.changes if change.gain]
    alike = len(pair.changes) - len(graded)
    if graded:
        head = ("id", "question", "gold", pair.comparison.other, pair.comparison.one, "grades")
        yield Table(head, tuple(map(_row, graded[:listed])), texts=True)
    else:
        yield Text("No question was graded differently.")
    if len(graded) > listed:
        yield Text(f"{len(graded) - listed} more questions were graded differently; {rest}.")
    if alike:
        yield Text(f"Different answers with the same grade: {alike}; {rest}.")


def _row(change: Change) -> tuple[str, ...]:
    item = change.item
    return (
        item.id,
        item.question,
        " | ".join(_with_text(item, one) for one in item.gold),
        _shown(item, change.before),
        _shown(item, change.after),
        f"{change.before.grade:.3g} → {change.after.grade:.3g}",
    )


def _shown(item: Item, score: Score) -> str:
    return _with_text(item, score.value) if score.value else "(no answer)"


def _with_text(item: Item, answer: str) -> str:
    """A letter together with the text of its choice."""
    if item.kind == "choice" and answer in item.letters:
        return f"{answer}: {item.options[item.letters.index(answer)]}"
    return answer
