"""MathVista: published layouts, the authors' extraction and normalization, and the file for their judge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from colm_vl.errors import InputError
from eval.benchmarks.registry import find
from eval.evaluator import ANSWER_FILES, plan, run
from eval.predictions import read_predictions
from eval.scoring.scorer import score
from eval.types import Item, Reply, Rule
from tests.eval import mathvista_rows
from tests.teams import scripted

OPTIONS = ("135°", "140°", "145°", "none of them")


def item(gold: str, answer_type: str = "text", options: tuple[str, ...] = ()) -> Item:
    kind = {"question_type": "multi_choice" if options else "free_form", "answer_type": answer_type}
    return Item("1", "?", (gold,), "choice" if options else "open", options=options, groups=kind)


def test_all_layouts_have_the_same_questions(tmp_path: Path) -> None:
    official = plan(find("mathvista"), mathvista_rows.official(tmp_path / "a"))
    table = plan(find("mathvista"), mathvista_rows.vlmevalkit(tmp_path / "b"))
    for planned in (official, table):
        assert [(one.id, one.options, one.gold) for one in planned.items] == [
            ("1", (), ("1.2",)),
            ("2", (), ("1000",)),
            ("3", ("135°", "140°", "145°", "145°"), ("C", "D")),
            ("4", (), ("[2014, 2016]",)),
        ]
        assert [len(query.images) for query in planned.questions] == [1, 1, 1, 1]
        assert [one.question for one in planned.items] == [
            "How much is it, 1?",
            "How much is it, 2? (Unit: g)",
            "How much is it, 3?",
            "How much is it, 4?",
        ]
        assert planned.items[1].groups["skills"] == "scientific reasoning, arithmetic reasoning"
    assert next(iter(official.questions)).question.endswith("Answer with a number in the form 1.2.")


def test_a_question_counts_for_each_of_its_skills(tmp_path: Path) -> None:
    items = plan(find("mathvista"), mathvista_rows.official(tmp_path)).items
    replies = {one.id: Reply(text) for one, text in zip(items, ("1.2", "1000", "145°", "x"), strict=True)}
    metrics = {metric.name: metric for metric in score(find("mathvista"), items, replies, Rule.OFFICIAL).metrics}
    assert (metrics["Overall"].correct, metrics["free_form"].correct, metrics["multi_choice"].correct) == (3, 2, 1)
    assert metrics["scientific reasoning"].total == metrics["arithmetic reasoning"].total == 1
    assert metrics["logical reasoning"].total == 3


@pytest.mark.parametrize(
    ("reply", "asked", "value"),
    [
        ("145°", item("C", options=OPTIONS), "C"),
        ("C", item("C", options=OPTIONS), ""),  # the judge's part
        ('The answer is "C".', item("C", options=OPTIONS), "C"),
        ('So: The answer is "(c) 145°".', item("C", options=OPTIONS), "C"),
        ('The answer is "about 140".', item("C", options=OPTIONS), "B"),  # the nearest text
        ('The answer is "C"', item("C", options=OPTIONS), ""),
        (" 14 ", item("14", "integer"), "14"),
        ("14.0", item("14", "integer"), ""),
        ('The answer is "14.9".', item("14", "integer"), "14"),
        ('The answer is "many".', item("14", "integer"), ""),
        ("1.249", item("1.2", "float"), "1.2"),
        ("1", item("1.2", "float"), "1.0"),
        ("1.2 kg", item("1.2", "float"), ""),
        ('The answer is "[1, 2]".', item("[1, 2]", "list"), "[1, 2]"),
    ],
)
def test_quick_extraction_and_normalization(reply: str, asked: Item, value: str) -> None:
    assert find("mathvista").official(asked, reply).value == value


def test_an_answer_that_is_no_choice_is_refused(tmp_path: Path) -> None:
    row = mathvista_rows.problem(7, "dog", choices=["cat", "cow"])
    (tmp_path / "x.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match="question 7: answer 'dog' is not one of its choices"):
        plan(find("mathvista"), tmp_path / "x.jsonl")


def test_replies_without_the_sentence_are_read_leniently() -> None:
    for reply, asked, value in (
        ("The answer is (C).", item("C", options=OPTIONS), "C"),
        ("It weighs 14 g.", item("14", "integer"), "14"),
        ("Answer: 1.249 kg", item("1.2", "float"), "1.2"),
    ):
        assert find("mathvista").lenient(asked, reply).value == value


def test_the_authors_script_and_its_judge_complete_the_file_of_a_run(tmp_path: Path) -> None:
    planned = plan(find("mathvista"), mathvista_rows.official(tmp_path))
    with scripted({"one": ["Answer: (C)"]}, ["Evidence: none"]) as colm:
        list(run(colm, planned, ("solo:one",), tmp_path / "run"))
    (path,) = (tmp_path / "run" / ANSWER_FILES).iterdir()
    results = json.loads(path.read_text())
    assert {row["response"] for row in results.values()} == {"(C)", "145°"}
    assert (results["1"]["precision"], results["1"]["choices"]) == (1, None)
    assert results["3"]["query"].endswith("(C) 145°\n(D) 145°")
    assert results["2"]["metadata"]["skills"] == ["scientific reasoning", "arithmetic reasoning"]
    extracted = {"1": "1.2", "2": "1000", "3": "(D) 145°", "4": ""}
    for pid, text in extracted.items():
        results[pid]["extraction"] = text
    path.write_text(json.dumps(results))
    replies = read_predictions(path, column="extraction")
    found = score(find("mathvista_extracted"), planned.items, replies, Rule.OFFICIAL)
    assert [one.correct for one in found.scores] == [True, True, True, False]
