"""Scores replies: parses each one under a rule and computes the benchmark's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from colm_vl.errors import InputError

from ..benchmarks.base import Benchmark
from ..types import DRAWN, NOTHING, UNPARSED, Item, ParsedAnswer, ParsedReply, Reply, Results, Rule, letters
from . import lenient

AS_GIVEN = "as given"
STORED_DRAW = "stored draw"


def score(
    benchmark: Benchmark, items: Sequence[Item], replies: Mapping[str, Reply], rule: Rule, *, partial: bool = False
) -> Results:
    """Parse and score every reply, and compute the metrics.

    Raises `InputError` for replies to unknown items, for items without a reply unless `partial`, for a rule that the
    benchmark does not have, and if no reply can be graded. Some that cannot are left out, with a note. With `partial`,
    metrics cover the answered items only, as in the official scripts, and `Results.coverage` says how many these are.
    """
    if not benchmark.scored:
        raise InputError(f"{benchmark.title} is scored by its own judge", hint="`run` writes the answer file for it")
    if rule not in benchmark.rules:
        raise InputError(
            f"{benchmark.title} has no rule {rule.value!r}",
            hint=f"one of: {', '.join(r.value for r in benchmark.rules)}",
        )
    scored = [item for item in items if item.gold]
    if not scored:
        raise InputError("no question has a gold answer", hint="name their column with --answer-column")
    missing = check_ids([item.id for item in items], replies, [item.id for item in scored], partial)
    answered = benchmark.order([_with_options(item, replies[item.id]) for item in scored if item.id in replies])
    parsed = {item.id: _parse(benchmark, item, replies[item.id], rule) for item in answered}
    if rule is Rule.OFFICIAL:
        unparsed = [item for item in answered if parsed[item.id].how == UNPARSED]
        parsed |= _draws(benchmark, unparsed, parsed, replies)
    graded = benchmark.scores(ParsedReply(item, parsed[item.id]) for item in answered)
    scores = {one.id: one for one in graded if one}
    ungraded = [item.id for item in answered if item.id not in scores]
    if ungraded and not scores:
        raise InputError(f"none of the {len(ungraded)} replies could be graded", hint="a warning says why")
    answered = [item for item in answered if item.id in scores]
    columns = dict.fromkeys(replies[item.id].column for item in answered)
    return Results(
        benchmark.name,
        rule,
        tuple(benchmark.metrics(answered, list(scores.values()))),
        tuple(scores.values()),
        missing,
        len(items) - len(scored),
        ", ".join(filter(None, columns)),
        (*_notes(benchmark, answered, replies, rule), *benchmark.notes(answered), *_left_out(ungraded)),
    )


def _notes(benchmark: Benchmark, items: Sequence[Item], replies: Mapping[str, Reply], rule: Rule) -> list[str]:
    given = [replies[item.id] for item in items if item.kind == "choice"]
    bare_letters = all(reply.text.strip() in letters(26) and not reply.settled for reply in given)
    if rule not in (Rule.OFFICIAL, Rule.STRICT) or not benchmark.draws or not given or not bare_letters:
        return []
    return [
        "Every reply to a multiple-choice question is a bare letter. If a script parsed them from longer replies, its"
        " random choices cannot be told from answers, and that is the only reason why strict equals official."
    ]


def _left_out(ungraded: Sequence[str]) -> list[str]:
    if not ungraded:
        return []
    return [f"Left out: {len(ungraded)} replies that could not be graded, the first: {ungraded[0]}."]


def check_ids(
    ids: Sequence[str], replies: Mapping[str, Reply], required: Sequence[str], partial: bool
) -> tuple[str, ...]:
    """The ids of `required` that have no reply. Raises `InputError` for ids that occur twice, for replies to unknown
    ids, and for missing replies unless `partial`."""
    known = frozenset(ids)
    if len(known) < len(ids):
        raise InputError(f"{len(ids) - len(known)} ids of the gold file occur twice", hint="give each question once")
    unknown = [key for key in replies if key not in known]
    if unknown:
        raise InputError(
            f"{len(unknown)} predictions for unknown questions, the first: {unknown[0]!r}",
            hint="check that gold and predictions are of the same benchmark and split",
        )
    missing = tuple(key for key in required if key not in replies)
    if missing and (not partial or not replies):
        raise InputError(
            f"{len(missing)} of {len(required)} questions have no prediction, the first: {missing[0]!r}",
            hint="--partial scores only the questions that have one",
        )
    return missing


def _with_options(item: Item, reply: Reply) -> Item:
    return replace(item, options=reply.options) if reply.options and not item.options else item


def _parse(benchmark: Benchmark, item: Item, reply: Reply, rule: Rule) -> ParsedAnswer:
    if item.kind != "choice" or item.options:
        formatted = reply.settled and reply.text
        return benchmark.parse(item, benchmark.format_answer(item, reply.text) if formatted else reply.text, rule)
    # Neither the gold file nor the reply has the options, so only a bare letter can be scored.
    text = reply.text.strip()
    if not text:
        return NOTHING
    if text in letters(26):
        return ParsedAnswer(text, AS_GIVEN)
    if rule is Rule.LENIENT:
        return lenient.parse_choice(text, (), count=10)
    raise InputError(
        f"prediction for {item.id!r} is not a letter, and its options are not known: {text[:40]!r}",
        hint="give a --gold file with the options, or predictions with all_choices and index2ans",
    )


def _draws(
    benchmark: Benchmark,
    unparsed: Sequence[Item],
    parsed: Mapping[str, ParsedAnswer],
    replies: Mapping[str, Reply],
) -> dict[str, ParsedAnswer]:
    """Random choices that are stored with the replies, and those of the benchmark's script for the other items."""
    stored = {item.id: draw for item in unparsed if (draw := replies[item.id].stored_draw) is not None}
    drawable = [item for item in unparsed if item.kind == "choice" and item.options and item.id not in stored]
    drawn = dict(zip((item.id for item in drawable), benchmark.draw(drawable, parsed), strict=False))
    return {key: ParsedAnswer(letter, STORED_DRAW) for key, letter in stored.items() if letter} | {
        key: ParsedAnswer(letter, DRAWN) for key, letter in drawn.items()
    }
