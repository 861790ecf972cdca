"""POPE and HallusionBench: published layouts and official scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from colm_vl.errors import InputError
from eval.benchmarks.registry import find
from eval.evaluator import Plan, plan
from eval.scoring.scorer import score
from eval.types import Item, Reply, Results, Rule
from tests.eval import yes_no_answers


def scored(name: str, planned: Plan, *said: str, rule: Rule = Rule.OFFICIAL) -> Results:
    replies = {item.id: Reply(text) for item, text in zip(planned.items, said, strict=True)}
    return score(find(name), planned.items, replies, rule)


def shown(results: Results) -> dict[str, float]:
    return {
        metric.name: pytest.approx(100 * metric.accuracy if metric.points is None else metric.points)
        for metric in results.metrics
    }


def test_pope_in_the_files_of_its_authors(tmp_path: Path) -> None:
    labels = {"random": ["yes", "yes", "no", "no"], "popular": ["no", "yes"], "adversarial": ["no", "no"]}
    planned = plan(find("pope"), yes_no_answers.pope_official(tmp_path, labels))
    assert [item.id for item in planned.items] == [
        *("adversarial-1", "adversarial-2", "popular-1", "popular-2"),
        *("random-1", "random-2", "random-3", "random-4"),
    ]
    assert all(len(query.images) == 1 for query in planned.questions)
    found = shown(scored("pope", planned, "yes", "no", "no", "no", "yes", "no", "yes", "yes"))
    # Random: one "yes" of two is found, with two false ones.
    assert {name: value for name, value in found.items() if "random" in name} == {
        "random": 25,
        "precision, random": pytest.approx(100 / 3),
        "recall, random": 50,
        "F1, random": 40,
        "yes ratio, random": 75,
    }
    assert found["F1, popular"] == found["precision, adversarial"] == 0
    assert (found["Overall"], found["yes ratio, all"]) == (37.5, 50)


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Yes, there is a dog. There is no cat.", "yes"),  # only the first sentence counts
        ("There is not, I think", "no"),
        ("No, there is none", "no"),
        ("NO", "yes"),
        ("There is nothing.", "yes"),
        ("(no)", "yes"),
        (" ", ""),
    ],
)
def test_pope_looks_for_no_and_not(reply: str, answer: str) -> None:
    assert find("pope").official(Item("1", "?", ("yes",), "yes_no"), reply).value == answer


def test_pope_of_vlmevalkit_counts_a_question_for_each_of_its_parts(tmp_path: Path) -> None:
    planned = plan(find("pope"), yes_no_answers.pope_tsv(tmp_path))
    assert all(len(query.images) == 1 for query in planned.questions)
    totals = {metric.name: metric.total for metric in scored("pope", planned, "yes", "no").metrics}
    assert (totals["Overall"], totals["random"], totals["popular"], totals["adversarial"]) == (2, 1, 2, 1)


def test_hallusion_bench_in_the_files_of_its_authors(tmp_path: Path) -> None:
    """Figures and questions are correct if all of their answers are."""
    planned = plan(find("hallusion_bench"), yes_no_answers.hallusion_bench_official(tmp_path), "all")
    assert [len(query.images) for query in planned.questions] == [1, 1, 1, 1, 0, 1]
    found = shown(scored("hallusion_bench", planned, "Yes.", "No.", "Yes, it is.", "yes", "I do not know", "No"))
    assert found == {
        "Overall": pytest.approx(100 * 4 / 6),
        "fAcc": pytest.approx(100 * 2 / 3),
        "qAcc": pytest.approx(100 / 3),
        "fAcc, VD": 50,
        "qAcc, VD": 50,
        "fAcc, VS": 100,
        "qAcc, VS": 0,
        "VD": 75,
        "VS": 50,
        "chart": pytest.approx(100 * 4 / 6),
    }


def test_hallusion_bench_asks_with_figures_unless_all_are_wanted(tmp_path: Path) -> None:
    """The hub has the others in a split of their own, VLMEvalKit's TSV does not have them."""
    official = yes_no_answers.hallusion_bench_official(tmp_path / "a")
    hub = yes_no_answers.hallusion_bench(tmp_path / "b")
    table = yes_no_answers.hallusion_bench_tsv(tmp_path / "c")
    for data, split, count in ((official, "image", 5), (hub, "image", 5), (hub, "all", 6), (table, "image", 5)):
        planned = plan(find("hallusion_bench"), data, split)
        assert len(planned.items) == count
        assert sum(len(query.images) for query in planned.questions) == 5
        assert len({item.unit for item in planned.items}) == 2
        perfect = [item.gold[0] for item in planned.items]
        assert all(metric.accuracy == 1 for metric in scored("hallusion_bench", planned, *perfect).metrics)


@pytest.mark.parametrize(
    ("reply", "strict", "lenient"), [("**Yes**", "", "yes"), ("Yes, not no", "", ""), ("no!", "no", "no")]
)
def test_hallusion_bench_takes_yes_or_no_as_a_word(reply: str, strict: str, lenient: str) -> None:
    item = Item("VD_chart_0_0_0", "?", ("yes",), "yes_no")
    assert find("hallusion_bench").parse(item, reply, Rule.STRICT).value == strict
    assert find("hallusion_bench").parse(item, reply, Rule.LENIENT).value == lenient


def test_hallusion_bench_refuses_rows_without_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"index": "7", "question": "?", "answer": "Yes", "category": "VD"}\n')
    with pytest.raises(InputError, match="'7' does not say its set, figure and question"):
        plan(find("hallusion_bench"), path)
