"""Metrics: examples from their papers, and comparison with reference implementations on generated replies."""

from __future__ import annotations

import ast
import collections
import os
import random
import re
import string
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest

from colm_vl.errors import ColmError
from eval.metrics.anls import levenshtein
from eval.metrics.base import Gold
from eval.metrics.judge import Judge
from eval.metrics.registry import default, find, names

REPLIES = 5_000
REFERENCES = "COLM_VL_REFERENCES"
PUNCTUATION = "VLMEvalKit/vlmeval/smp/misc.py"
VLMEVALKIT = "VLMEvalKit/vlmeval/dataset/utils/vqa_eval.py"
SQUAD = "evaluate/metrics/squad_v2/compute_score.py"
WORDS = (
    "a",
    "the",
    "An",
    "cat",
    "cats",
    "CAT",
    "tree",
    "12",
    "12.5",
    "12,5",
    "5%",
    "6%",
    "0",
    "0.0",
    "nan",
    "%",
    "-3",
    "",
)
GLUE = (" ", "  ", "-", ". ", "", "\n", ", ")


def grade(metric: str, reply: str, *accepted: str, choices: tuple[str, ...] = ()) -> float:
    return find(metric).grade(reply, Gold(accepted, choices))


@pytest.mark.parametrize(
    ("metric", "reply", "accepted", "expected"),
    [
        ("exact", "The Eiffel Tower.", "eiffel tower", 1),
        ("exact", "1,000", "1000", 1),
        ("exact", "three", "3", 1),
        ("exact", "Eiffel", "eiffel tower", 0),
        ("contains", "It is the Eiffel Tower", "eiffel tower", 1),
        ("contains", "It is a tower", "eiffel tower", 0),
        ("numeric", "104.9", "100", 1),
        ("numeric", "105.1", "100", 0),
        ("numeric", "50%", "0.51", 1),
        ("numeric", "Brazil", "brazil", 1),
        ("numeric", "0.0", "0", 0),
        ("numeric,relative=0.01", "101", "100", 1),
        ("numeric,relative=0.01", "104", "100", 0),
        ("numeric,absolute=0.1", "1.1", "1", 1),
        ("numeric,absolute=0.1", "1.11", "1", 0),
        ("numeric,absolute=0.1", "0.05", "0", 1),
        ("numeric,absolute=0.5", "50.4%", "50%", 1),
        ("numeric,absolute=0.5", "0.9", "50%", 0),
        ("numeric,absolute=1,relative=0.1", "1.5", "1", 1),
        ("numeric,absolute=1,relative=0.1", "109", "100", 1),
        ("numeric,absolute=1,relative=0.1", "111", "100", 0),
        ("numeric,absolute=1", "inf", "5", 0),
        ("numeric,absolute=1", "about 1", "1", 0),
        ("anls", "hello world", "Hello  World", 1),
        ("anls", "abcd", "abcx", 0.75),
        ("anls", "ab", "ax", 0.5),
        ("anls", "abcde", "axxxe", 0),
        ("f1", "the red cat", "red dog", 0.5),
        ("f1", "", "cat", 0),
    ],
)
def test_examples(metric: str, reply: str, accepted: str, expected: float) -> None:
    assert grade(metric, reply, accepted) == pytest.approx(expected)


def test_the_best_accepted_answer_counts() -> None:
    assert grade("anls", "abcd", "xyz", "abcx") == 0.75
    assert grade("f1", "red cat", "dog", "cat red") == 1


def test_choice_by_letter_and_by_text() -> None:
    assert grade("choice", "I think it is (B).", "B", choices=("a cat", "a dog")) == 1
    assert grade("choice", "a dog", "B", choices=("a cat", "a dog")) == 1
    assert grade("choice", "A", "B", choices=("a cat", "a dog")) == 0
    with pytest.raises(ColmError, match="needs questions with choices"):
        grade("choice", "A", "cat")


def test_the_gold_answer_decides_without_a_metric() -> None:
    assert default(Gold(("B",), ("x", "y"))) == "choice"
    assert default(Gold(("12",), number=True)) == "numeric"
    assert default(Gold(("12 km",))) == "exact"
    assert default(Gold(("two",) * 10)) == "vqa"


def test_a_function_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = ["def half(reply, accepted): return 0.5 if reply in accepted else 0", "def off(reply, accepted): return 7"]
    (tmp_path / "my_grades.py").write_text("\n".join(code))
    monkeypatch.syspath_prepend(tmp_path)
    assert grade("my_grades:half", "x", "y", "x") == 0.5
    for name, said in [
        ("my_grades:off", "returned 7"),
        ("my_grades:none", "has no function 'none'"),
        ("no_such_module:f", "cannot be imported"),
        ("anlss", "unknown metric"),
    ]:
        with pytest.raises(ColmError, match=said):
            grade(name, "x", "x")
    sys.modules.pop("my_grades")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("numeric,tolerance=1", "metric numeric: unknown key 'tolerance'"),
        ("numeric,relative=5%", "metric numeric: relative: Input should be a valid number.* \\(given: '5%'\\)"),
        ("numeric,relative=-1", "metric numeric: relative: Input should be greater than or equal to 0"),
        ("numeric,absolute=nan", "metric numeric: absolute: Input should be"),
        ("numeric,0.5", "metric numeric: '0.5' has no value"),
        ("numeric,relative=1,relative=2", "metric numeric: 'relative' is given twice"),
        ("anls,relative=1", "metric anls: unknown key 'relative'"),
    ],
)
def test_wrong_settings_are_refused(metric: str, message: str) -> None:
    with pytest.raises(ColmError, match=message):
        find(metric)


def test_every_metric_says_what_it_measures() -> None:
    assert set(names()) >= {"choice", "exact", "contains", "numeric", "anls", "f1", "vqa", "math", "judge"}
    assert all(find(name).note and find(name).source for name in names() if name != "judge")
    assert Judge.note
    assert Judge.source


# --- references ---


def generated() -> list[tuple[str, list[str]]]:
    """Replies and accepted answers, many of them near to each other."""
    chance = random.Random(0)

    def text() -> str:
        parts = [chance.choice(WORDS) + chance.choice(GLUE) for _ in range(chance.randint(0, 3))]
        return "".join(parts) + chance.choice(WORDS)

    def near(text: str) -> str:
        if chance.random() < 0.5 and text:
            place = chance.randrange(len(text))
            return text[:place] + chance.choice("xA 5.%") + text[place + 1 :]
        return text

    def number() -> str:
        return f"{chance.uniform(-2, 2) * 10 ** chance.randint(-2, 3):.2f}" + chance.choice(["", "", "%"])

    cases: list[tuple[str, list[str]]] = []
    for turn in range(REPLIES):
        if turn % 4 == 0:
            gold = number()
            bare, percent = gold.rstrip("%"), "%" * gold.endswith("%")
            cases.append((f"{float(bare) * chance.uniform(0.9, 1.1):.3f}{percent}", [gold]))
        else:
            accepted = [text() for _ in range(chance.randint(1, 3))]
            cases.append((near(chance.choice(accepted)) if chance.random() < 0.8 else text(), accepted))
    return cases


_CALLED = (
    "levenshtein_distance", "_process_digit_article", "normalize_answer", "get_tokens",
)  # fmt: skip
"""Functions that the reference functions call."""


def reference(file: str, name: str, **needed: Any) -> Callable[..., Any]:
    """A function of a reference implementation. Only the functions of its file are executed, not its imports."""
    path = Path(os.environ.get(REFERENCES, "")) / file
    if REFERENCES not in os.environ or not path.exists():
        pytest.skip(f"{REFERENCES} names no folder with {file}: see docs/metrics.md")
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in (name, *_CALLED)]
    scope: dict[str, Any] = {
        "Optional": Optional, "collections": collections, "re": re, "string": string,
        "ARTICLES_REGEX": re.compile(r"\b(a|an|the)\b", re.UNICODE),
        **needed,
    }  # fmt: skip
    exec(compile(ast.unparse(tree), file, "exec"), scope)
    found: Callable[..., Any] = scope[name]
    return found


def test_anls_equals_its_reference() -> None:
    compute = reference(VLMEVALKIT, "anls_compute")
    for reply, accepted in generated():
        similarity = 1 - min(compute(one, reply) for one in accepted)
        assert grade("anls", reply, *accepted) == pytest.approx(similarity if similarity >= 0.5 else 0), (
            reply,
            accepted,
        )


def test_numeric_equals_its_reference() -> None:
    compute = reference(VLMEVALKIT, "relaxed_correctness")
    correct = 0.0
    for reply, accepted in generated():
        stripped = [one.strip() for one in accepted]
        expected = max(compute(one, reply.strip()) for one in stripped)
        assert grade("numeric", reply, *accepted) == expected, (reply, accepted)
        correct += expected
    assert 0.2 * REPLIES < correct < 0.8 * REPLIES


def test_f1_equals_its_reference() -> None:
    compute = reference(SQUAD, "compute_f1")
    for reply, accepted in generated():
        expected = max(compute(one, reply) for one in accepted)
        assert grade("f1", reply, *accepted) == pytest.approx(expected), (reply, accepted)


def annotated() -> list[tuple[str, list[str]]]:
    """Replies with the answers of ten annotators."""
    chance = random.Random(1)
    words = (
        "A cat",
        "cat.",
        "two",
        "2",
        "dont",
        "don't know",
        "1,000",
        "1000",
        "red/blue",
        "red blue",
        "yes!",
        "3.5",
        "'twas",
    )
    contractions = ("dont", "shouldntve", "shouldn'tve", "twas", "'ow'sat", "somebody'd", "yall'd've", "shes", "Ive")
    cases = []
    for _ in range(REPLIES):
        pool = chance.sample([*words, *contractions], 4)
        answers = [chance.choice(pool) for _ in range(10)]
        cases.append((chance.choice([*pool, *pool, *words]) + chance.choice(["", "", ".", " ?", ", the"]), answers))
    return cases


def test_vqa_equals_its_reference() -> None:
    punctuation = reference(PUNCTUATION, "process_punctuation")
    normalize = reference(VLMEVALKIT, "process_answer", process_punctuation=punctuation)
    cases = [*annotated(), *generated()]
    grades = set()
    for reply, accepted in cases:
        given, answers = normalize(reply), [normalize(one) for one in accepted]
        others = [answers[:place] + answers[place + 1 :] for place in range(len(answers))]
        expected = sum(min(1, rest.count(given) / 3) for rest in others) / len(answers)
        grades.add(round(expected, 6))
        assert grade("vqa", reply, *accepted) == pytest.approx(expected), (reply, accepted)
    assert len(grades) >= 5


def test_vqa_needs_four_annotators_for_a_whole_point() -> None:
    grades = [grade("vqa", "Two.", *["2"] * agreeing, *["no"] * (10 - agreeing)) for agreeing in range(5)]
    assert grades == pytest.approx([0, 0.3, 0.6, 0.9, 1])


def test_levenshtein() -> None:
    assert levenshtein("kitten", "sitting") == 3
    assert levenshtein("", "abc") == 3
