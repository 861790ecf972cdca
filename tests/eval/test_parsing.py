"""The parsers of every rule, and properties that hold for any text."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.benchmarks.registry import find
from eval.scoring import lenient, matching, mmmu, mmmu_pro, scienceqa
from eval.scoring.scorer import score
from eval.types import DRAWN, UNPARSED, Item, Reply, Rule, letters

OPTIONS = ("red", "blue", "green", "a large grey elephant")

replies = st.one_of(
    st.text(max_size=80),
    st.text(alphabet="ABCD ab().,:'!?=\n-1234567890eE/$%*", max_size=40),
    st.sampled_from(["The answer is B.", "(A) or (C)", "Answer: D", "\\boxed{B}", "so it is 1,234.5", "#### 7", "Yes"]),
)


@pytest.mark.parametrize(
    ("reply", "value", "how"),
    [
        ("(A) then (C), no, (B)", "B", "bracket"),
        ("It is (A) not (B)", "B", "bracket"),
        ("B", "B", "letter"),
        ("I pick B and nothing else", "B", "letter"),
        ("A man rides a horse", "A", "letter"),
        ("'B.'", "", UNPARSED),  # the apostrophes come off last, so that the full stop stays
        ("B'.", "B", "letter"),
        ("what I see there is blue paint", "B", "content"),
        ("red, then blue, then red once more", "A", "content"),
        ("it is blue", "", UNPARSED),
        *((oddity, "", UNPARSED) for oddity in ("B)", "b", "(b)", "**B**", "B. blue", "B\n", "")),
    ],
)
def test_mmmu_choice(reply: str, value: str, how: str) -> None:
    parsed = mmmu.parse_choice(reply, OPTIONS)
    assert (parsed.value, parsed.how) == (value, how)


@pytest.mark.parametrize(
    ("reply", "gold", "correct"),
    [
        ("The answer is 7.", "7", True),
        ("x = 12", "12.00", True),
        ("x = 12\nso there", "12", False),  # an equals sign counts in the last line only
        ("It costs 1,234 dollars", "1234", True),
        ("It costs 1,234.5 dollars", "1234.5", False),  # 1234 and 234.5 are what the patterns find
        ("1.5e3", "1500", True),
        ("final answer is -3", "3", False),
        ("10-3", "-3", True),  # a leading minus belongs to the number, wherever it comes from
        ("the right ventricle", "right", True),
        ("A", "a", True),
        ("a cat", "a", True),
        ("cat", "a", False),  # a single character does not match within a word
        ("", "x", False),
        ("3.14159", "3.14", True),
    ],
)
def test_mmmu_open(reply: str, gold: str, correct: bool) -> None:
    assert mmmu.is_correct_open(mmmu.parse_open(reply), [gold]) is correct


def test_mmmu_open_takes_any_of_several_gold_answers() -> None:
    assert mmmu.is_correct_open(mmmu.parse_open("It is in Florida."), ["Tampa", "Florida"])


@pytest.mark.parametrize(
    ("reply", "value", "how"),
    [
        ("I think A. Answer: C", "C", "label"),
        ("Answer: A\nAnswer: B", "B", "label"),
        ("Answer: because", "", UNPARSED),
        ("Answer: Because", "B", "label"),
        ("Answer: (A) or (B)", "B", "bracket"),
        ("C is it", "C", "letter"),
        ("It is C.That's all", "C", "letter."),
    ],
)
def test_mmmu_pro(reply: str, value: str, how: str) -> None:
    parsed = mmmu_pro.parse_choice(reply, OPTIONS)
    assert (parsed.value, parsed.how) == (value, how)


@pytest.mark.parametrize(
    ("reply", "official", "llava"),
    [
        ("The answer is B.", "B", "B"),
        ("The answer is B!", "B", "B"),
        ("The answer is B", "", ""),
        ("The answer is B\n", "", ""),
        ("The answer is A. The answer is B.", "", ""),
        ("The answer is Z.", "", ""),
        ("B", "", "B"),
        ("B. blue", "", "B"),
        ("E", "", ""),
    ],
)
def test_scienceqa(reply: str, official: str, llava: str) -> None:
    assert scienceqa.parse_choice(reply, OPTIONS).value == official
    assert scienceqa.parse_choice_llava(reply, OPTIONS).value == llava


@pytest.mark.parametrize(
    "reply",
    [
        "B)",
        "b",
        "(b)",
        "**B**",
        "B. blue",
        "B\n",
        "\\boxed{B}",
        "blue",
        "The answer is **(B)**.",
        "It is not red.\n\nAnswer: B",
        "Looking at it closely…\nBlue.",
        "Final answer: blue",
        "The answer is B. Option (C) is wrong, and so is (D).",
        "Answer: \\( \\text{B} \\)",
        "Answer: \\(B\\)",
        "\\[ \\boxed{\\text{B}} \\]",
        "It must be B, so the answer is (B).\n\nQuestion: What is it?\nAnswer: The answer is (C).",
        "The answer is (B).\n\n\n== response ==\nThe answer is (C).",
        "The answer is (B). Of this the answer is certain.",
    ],
)
def test_lenient_parses_common_forms(reply: str) -> None:
    assert lenient.parse_choice(reply, OPTIONS).value == "B"


@pytest.mark.parametrize("reply", ["", "no idea", "A man rides a horse", "red or blue"])
def test_lenient_finds_nothing_where_there_is_no_answer(reply: str) -> None:
    assert lenient.parse_choice(reply, OPTIONS).how == UNPARSED


def test_lenient_falls_back_to_the_official_parser() -> None:
    """Otherwise it would score worse on replies that name several choices."""
    reply = "It could be (A) but also, as I see it, (B)"
    assert lenient.parse_choice(reply, OPTIONS).how == UNPARSED
    assert find("mmmu").parse(item(0), reply, Rule.LENIENT).value == "B"


@pytest.mark.parametrize(
    ("reader", "reply", "value"),
    [
        ("option", "The option is B, clearly", "B"),
        ("option", "A or B", ""),
        ("option", "blue!", "B"),
        ("option", "B is what I see in the picture", ""),  # no letter among the last four words
        ("option", "D, the B of them all, I see", ""),
        ("option", "B: what you see", "B"),
        ("option", "**B** it is, since the sky there is wide", ""),
        ("option", "The correct answer is **C**. Neither A nor B is there, nor anything else.", "C"),
        ("option", "The answer is a dog, I would say, and not a cat", "A"),
        ("option", "The answer is e, as in elephant", ""),
        ("option", "Z, not blue", ""),
        ("option", "Cannot determine the answer, perhaps B", ""),
        (
            "option",
            "blue, as far as I can tell from the whole of what is shown here, that is",
            "",
        ),  # too long for its text
        ("yes_no", "Yes, it does", "yes"),
        ("yes_no", "No.", "no"),
        ("yes_no", "It does", ""),
        ("yes_no", " YES", "yes"),
        ("yes_no", "Oh, yes", ""),
        ("yes_no", "Not at all", "no"),
        ("yes_no", "Know", "no"),
        ("mmlu_pro", "so the answer is (C).", "C"),
        ("mmlu_pro", "Answer: J", "J"),
        ("mmlu_pro", "I'd say D", "D"),
        ("mmlu_pro", "A or, rather, B\nsince CO2 is GREEN", "B"),  # a letter within a word is none
        ("mmlu_pro", "GREEN", ""),
        ("mmlu_pro", "The answer is **B**, not C", "C"),
        ("mmlu_pro", "Answer: A or answer: B\nanswer: C", "B"),
        ("mmlu_pro", "The answer is K. Answer: D", "D"),
        ("mmlu_pro", "none", ""),
        ("mmlu_pro", "answer: Answer: B", "B"),
        ("mmlu_pro", "x" * 300_000 + " answer " * 10_000 + "A", "A"),  # in time that grows with the length only
        ("gsm8k", "Adding up.\n#### 1,080", "1080"),
        ("gsm8k", "It is 1080", ""),
        ("gsm8k", "#### 7.", "7."),
        ("gsm8k", "#### 7\n#### 8", "7"),
        ("gsm8k", "#### $7, or #### -7", "-7"),
        ("gsm8k", "####7", ""),
        ("gsm8k", "#### ,", ""),
    ],
)
def test_other_parsers(reader: str, reply: str, value: str) -> None:
    readers = {
        "option": lambda text: matching.parse_option(text, OPTIONS),
        "yes_no": matching.parse_yes_no,
        "mmlu_pro": matching.parse_mmlu_pro,
        "gsm8k": matching.parse_gsm8k,
    }
    parsed = readers[reader](reply)
    assert (parsed.value, parsed.how == UNPARSED) == (value, value == "")


@given(replies, st.lists(st.text(max_size=12), min_size=2, max_size=9))
@settings(max_examples=150, deadline=None)
def test_no_parser_crashes_or_names_an_unknown_option(reply: str, options: list[str]) -> None:
    read = [reader(reply, options) for reader in (mmmu.parse_choice, mmmu_pro.parse_choice, scienceqa.parse_choice)]
    read += [scienceqa.parse_choice_llava(reply, options), matching.parse_option(reply, options)]
    read.append(lenient.parse_choice(reply, options))
    assert all(one.value in letters(len(options)) if one.how != UNPARSED else not one.value for one in read)


@given(replies, st.lists(st.text(max_size=12), min_size=1, max_size=3))
@settings(max_examples=150, deadline=None)
def test_open_parsers_never_crash(reply: str, gold: list[str]) -> None:
    assert mmmu.is_correct_open(mmmu.parse_open(reply), gold) in (True, False)
    assert matching.contains_accepted_text(reply, gold, formula=True) in (True, False)
    assert matching.contains_accepted_text(reply, gold, formula=False) in (True, False)
    for reader in (matching.parse_gsm8k, matching.parse_mmlu_pro, matching.parse_yes_no, lenient.parse_number):
        assert (reader(reply).how == UNPARSED) is (reader(reply).value == "")


def item(index: int, kind: str = "choice") -> Item:
    groups = {"discipline": "Science", "subject": ("Math", "Physics", "Biology")[index % 3]}
    if kind == "open":
        return Item(f"validation_{groups['subject']}_{index}", "?", ("7",), "open", groups=groups)
    return Item(f"validation_{groups['subject']}_{index}", "?", ("B",), "choice", OPTIONS, groups=groups)


@given(st.lists(st.tuples(replies, st.sampled_from(["choice", "open"])), min_size=1, max_size=12), st.randoms())
@settings(max_examples=30, deadline=None)
def test_order_only_changes_draws_and_official_without_draws_is_strict(
    rows: list[tuple[str, str]], randomly: object
) -> None:
    items = [item(index, kind) for index, (_, kind) in enumerate(rows)]
    said = {one.id: Reply(reply) for one, (reply, _) in zip(items, rows, strict=True)}
    shuffled = list(items)
    randomly.shuffle(shuffled)  # type: ignore[attr-defined]
    for name in ("mmmu", "scienceqa"):
        benchmark = find(name)
        official = score(benchmark, items, said, Rule.OFFICIAL)
        strict = score(benchmark, items, said, Rule.STRICT)
        undrawn = {one.id for one in official.scores if one.correct and one.how != DRAWN}
        assert undrawn == {one.id for one in strict.scores if one.correct}
        for rule in (Rule.STRICT, Rule.LENIENT):
            one, other = (score(benchmark, order, said, rule) for order in (items, shuffled))
            sums, others = ({m.name: (m.correct, m.total) for m in found.metrics} for found in (one, other))
            assert sums == others


def test_letters() -> None:
    assert letters(26) == tuple(string.ascii_uppercase)
