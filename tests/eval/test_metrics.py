"""Metrics: examples from their papers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from colm_vl.errors import ColmError
from eval.metrics.anls import levenshtein
from eval.metrics.base import Gold
from eval.metrics.judge import Judge
from eval.metrics.registry import default, find, names


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


def test_vqa_needs_four_annotators_for_a_whole_point() -> None:
    grades = [grade("vqa", "Two.", *["2"] * agreeing, *["no"] * (10 - agreeing)) for agreeing in range(5)]
    assert grades == pytest.approx([0, 0.3, 0.6, 0.9, 1])


def test_levenshtein() -> None:
    assert levenshtein("kitten", "sitting") == 3
    assert levenshtein("", "abc") == 3
