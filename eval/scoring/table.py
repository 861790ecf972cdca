"""From items and replies to a table of figures, under one rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from colm_vl.errors import InputError

from ..benchmarks.base import Benchmark
from ..items import DRAWN, NOTHING, UNREAD, Item, Reading, Reply, Rule, Score, Table, letters
from . import lenient

AS_GIVEN = "as given"
STORED_DRAW = "stored draw"


def score(
    benchmark: Benchmark, items: Sequence[Item], replies: Mapping[str, Reply], rule: Rule, *, partial: bool = False
) -> Table:
    """Read every reply, add up.

    Raises `InputError` for replies to items that there are not, for items without a reply unless `partial`, and for a
    rule that the benchmark does not have. With `partial` the figures are over what was answered, as the official
    scripts do, and `Table.coverage` tells that something is missing.
    """
    if not benchmark.scored:
        raise InputError(f"{benchmark.title} is scored by its own judge", hint="`run` writes the answer file for it")
    if rule not in benchmark.rules:
        raise InputError(
            f"{benchmark.title} has no rule {rule.value!r}",
            hint=f"one of: {', '.join(r.value for r in benchmark.rules)}",
        )
    missing = _check_ids(items, replies, partial)
    answered = benchmark.order([_with_options(item, replies[item.id]) for item in items if item.id in replies])
    readings = {item.id: _read(benchmark, item, replies[item.id], rule) for item in answered}
    if rule is Rule.OFFICIAL:
        readings |= _draws(benchmark, [item for item in answered if readings[item.id].how == UNREAD], readings, replies)
    scores = [_score(benchmark, item, readings[item.id]) for item in answered]
    columns = dict.fromkeys(replies[item.id].column for item in answered)
    return Table(
        benchmark.name,
        rule,
        tuple(benchmark.figures(answered, scores)),
        tuple(scores),
        missing,
        ", ".join(filter(None, columns)),
        (*_notes(benchmark, answered, replies, rule), *benchmark.notes(answered)),
    )


def _notes(benchmark: Benchmark, items: Sequence[Item], replies: Mapping[str, Reply], rule: Rule) -> list[str]:
    given = [replies[item.id] for item in items if item.kind == "choice"]
    parsed = all(reply.text.strip() in letters(26) and not reply.settled for reply in given)
    if rule not in (Rule.OFFICIAL, Rule.STRICT) or not benchmark.draws or not given or not parsed:
        return []
    return [
        "Every choice is a bare letter. If a script has made them of longer replies, its draws cannot be told from"
        " answers: strict then equals official for that reason only."
    ]


def _check_ids(items: Sequence[Item], replies: Mapping[str, Reply], partial: bool) -> tuple[str, ...]:
    known = {item.id for item in items}
    if len(known) < len(items):
        raise InputError(f"{len(items) - len(known)} ids of the gold file occur twice", hint="every question once")
    unknown = [key for key in replies if key not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} predictions for unknown questions, the first: {unknown[0]!r}",
            hint="are gold and predictions of the same benchmark and split?",
        )
    missing = tuple(item.id for item in items if item.id not in replies)
    if missing and (not partial or not replies):
        raise InputError(
            f"{len(missing)} of {len(items)} questions have no prediction, the first: {missing[0]!r}",
            hint="--partial scores what is there and says how much that is",
        )
    return missing


def _with_options(item: Item, reply: Reply) -> Item:
    return replace(item, options=reply.options) if reply.options and not item.options else item


def _read(benchmark: Benchmark, item: Item, reply: Reply, rule: Rule) -> Reading:
    if item.kind != "choice" or item.options:
        phrase = reply.settled and reply.text
        return benchmark.read(item, benchmark.phrase(item, reply.text) if phrase else reply.text, rule)
    # Neither the gold file nor the reply says what the options are: all that can be scored is a letter as it stands.
    text = reply.text.strip()
    if not text:
        return NOTHING
    if text in letters(26):
        return Reading(text, AS_GIVEN)
    if rule is Rule.LENIENT:
        return lenient.read_choice(text, (), count=10)
    raise InputError(
        f"prediction for {item.id!r} is no letter, and its options are not known: {text[:40]!r}",
        hint="give --gold with the options, or predictions with all_choices and index2ans",
    )


def _draws(
    benchmark: Benchmark, unread: Sequence[Item], readings: Mapping[str, Reading], replies: Mapping[str, Reply]
) -> dict[str, Reading]:
    """The draws that were kept at the time stand for themselves; the rest are drawn as the benchmark's script does."""
    stored = {item.id: draw for item in unread if (draw := replies[item.id].stored_draw) is not None}
    drawable = [item for item in unread if item.kind == "choice" and item.options and item.id not in stored]
    drawn = dict(zip((item.id for item in drawable), benchmark.draw(drawable, readings), strict=False))
    return {key: Reading(letter, STORED_DRAW) for key, letter in stored.items() if letter} | {
        key: Reading(letter, DRAWN) for key, letter in drawn.items()
    }


def _score(benchmark: Benchmark, item: Item, reading: Reading) -> Score:
    right = reading.how != UNREAD and benchmark.right(item, reading)
    return Score(item.id, right, reading.value, reading.how)
