"""Benchmarks whose answers are words, phrases or numbers: published layouts and official scores."""

from __future__ import annotations

from pathlib import Path

import pytest

from colm_vl.errors import InputError
from eval.benchmarks.registry import find
from eval.evaluator import Plan, plan
from eval.predictions import read_predictions
from eval.scoring.scorer import score
from eval.types import Metric, Reply, Results, Rule
from tests.eval import short_answers


def scored(name: str, planned: Plan, *said: str, rule: Rule = Rule.OFFICIAL) -> Results:
    replies = {item.id: Reply(text) for item, text in zip(planned.items, said, strict=True)}
    return score(find(name), planned.items, replies, rule)


def grades(name: str, planned: Plan, *said: str, rule: Rule = Rule.OFFICIAL) -> list[float]:
    return [pytest.approx(one.grade) for one in scored(name, planned, *said, rule=rule).scores]


def by_name(results: Results) -> dict[str, Metric]:
    return {f"{metric.group}/{metric.name}": metric for metric in results.metrics}


def images_opened(planned: Plan) -> list[int]:
    return [len(query.images) for query in planned.questions]


def test_vqav2_in_the_folders_of_its_authors(tmp_path: Path) -> None:
    data = short_answers.vqav2_official(tmp_path, ["yes"], ["2", "3"], ["dog", "cat"])
    planned = plan(find("vqav2"), data)
    assert [(item.id, item.gold[0], item.groups) for item in planned.items] == [
        ("42000", "yes", {"answer_type": "yes/no"}),
        ("42001", "2", {"answer_type": "number"}),
        ("42002", "dog", {"answer_type": "other"}),
    ]
    assert images_opened(planned) == [1, 1, 1]
    file = data / "Questions" / "v2_OpenEnded_mscoco_val2014_questions.json"
    assert plan(find("vqav2"), file).items == planned.items
    (data / "Annotations" / "v2_mscoco_val2014_annotations.json").unlink()
    with pytest.raises(InputError, match=r"no v2_mscoco_val2014_annotations\.json beside it"):
        plan(find("vqav2"), data)


def test_vqav2_normalizes_only_where_annotators_disagree(tmp_path: Path) -> None:
    data = short_answers.vqav2_official(tmp_path, ["yes"], ["yes"], ["2", "3"], ["a dog", "a dog", "cat"], ["x", "y"])
    planned = plan(find("vqav2"), data)
    said = ("Yes", "yes\n", "Three.", "the dog!", "z")
    # Two annotators said "a dog": for eight others, 2 of 3; for these two, 1 of 3.
    assert grades("vqav2", planned, *said) == [0, 1, 1, 0.6, 0]
    assert grades("vqav2", planned, *said, rule=Rule.LENIENT) == [1, 1, 1, 0.6, 0]
    reply = "It is easy. The answer is three."
    assert grades("vqav2", planned, "no", "no", reply, "", "", rule=Rule.LENIENT) == [0, 0, 1, 0, 0]


def test_an_answer_of_a_run_has_the_form_of_the_annotators_answers(tmp_path: Path) -> None:
    planned = plan(find("vqav2"), short_answers.vqav2_official(tmp_path, ["yes"], ["2"], ["t-shirt"]))
    said = zip(planned.items, ("Yes.", "Two", "A T-shirt"), strict=True)
    replies = {item.id: Reply(text, settled=True) for item, text in said}
    assert score(find("vqav2"), planned.items, replies, Rule.STRICT).overall.accuracy == 1


def test_textvqa_in_the_files_of_its_authors(tmp_path: Path) -> None:
    data = short_answers.textvqa_official(tmp_path, ["stop", "stop", "halt"], ["bob's"], ["1,000"])
    short_answers.save_json(data / "TextVQA_Rosetta_OCR_v0.2_val.json", {"data": [{"ocr_tokens": []}]})
    planned = plan(find("textvqa"), data)
    assert [item.id for item in planned.items] == ["34602", "34603", "34604"]
    assert images_opened(planned) == [1, 1, 1]
    assert grades("textvqa", planned, "STOP!", "Bob 's", "1000") == [0.6, 1, 1]


def test_textvqa_of_vlmevalkit(tmp_path: Path) -> None:
    planned = plan(find("textvqa"), short_answers.textvqa_tsv(tmp_path))
    assert [(item.id, item.gold) for item in planned.items] == [("0", ("b",) * 10), ("1", ("b",) * 10)]
    assert images_opened(planned) == [1, 1]


def test_vizwiz_in_the_files_of_its_authors(tmp_path: Path) -> None:
    """Replies are normalized, annotators' answers are not."""
    data = short_answers.vizwiz_official(tmp_path)
    planned = plan(find("vizwiz"), data)
    assert plan(find("vizwiz"), data.parent, "validation").items == planned.items
    assert [item.id for item in planned.items] == ["VizWiz_val_00000000", "VizWiz_val_00000001"]
    assert images_opened(planned) == [1, 1]
    assert all('"unanswerable"' in query.question for query in planned.questions)
    results = scored("vizwiz", planned, "Soup.", "Unanswerable")
    assert [one.grade for one in results.scores] == [1, 1]
    assert grades("vizwiz", planned, "A can", "A can") == [0, 0.3]
    assert list(by_name(results)) == ["overall/Overall", "answer_type/other", "answer_type/unanswerable"]


def test_gqa_in_the_files_of_its_authors(tmp_path: Path) -> None:
    planned = plan(find("gqa"), short_answers.gqa_official(tmp_path))
    assert [item.id for item in planned.items] == ["20070", "20071", "20072"]
    assert len({query.images[0].digest for query in planned.questions}) == 2
    metrics = by_name(scored("gqa", planned, "table", "Yes", "no"))
    assert {name: metric.correct for name, metric in metrics.items()} == {
        "overall/Overall": 2,
        "kind/open": 1,
        "kind/binary": 1,
        "structural/query": 1,
        "structural/verify": 0,
        "structural/logical": 1,
        "semantic/obj": 2,
    }
    assert grades("gqa", planned, "The answer is Table.", "Yes.", "no", rule=Rule.LENIENT) == [1, 1, 1]


def test_gqa_of_the_hub_has_its_images_apart(tmp_path: Path) -> None:
    queries = list(plan(find("gqa"), short_answers.gqa(tmp_path)).questions)
    assert [len(query.images) for query in queries] == [1, 1, 1, 1]
    assert queries[0].images[0].digest == queries[1].images[0].digest != queries[2].images[0].digest


def test_chartqa_in_the_files_of_its_authors(tmp_path: Path) -> None:
    planned = plan(find("chartqa"), short_answers.chartqa_official(tmp_path))
    assert [(item.id, item.gold, item.groups) for item in planned.items] == [
        ("augmented-0", ("2014",), {"part": "augmented"}),
        ("human-0", ("10",), {"part": "human"}),
        ("human-1", ("Yes",), {"part": "human"}),
    ]
    assert images_opened(planned) == [1, 1, 1]
    # Five percent of a year are a century.
    metrics = by_name(scored("chartqa", planned, "1914", "10.5", "no"))
    assert {name: metric.correct for name, metric in metrics.items()} == {
        "overall/Overall": 2,
        "part/augmented": 1,
        "part/human": 1,
    }
    assert grades("chartqa", planned, "1913", "10.51", "yes") == [0, 0, 1]
    assert grades("chartqa", planned, "2014", "It is about 10 in all.\nAnswer: 10", "x", rule=Rule.LENIENT) == [1, 1, 0]


def test_chartqa_of_the_hub_and_of_vlmevalkit(tmp_path: Path) -> None:
    for number, layout in enumerate((short_answers.chartqa, short_answers.chartqa_m4, short_answers.chartqa_tsv)):
        planned = plan(find("chartqa"), layout(tmp_path / str(number)))
        assert {item.groups["part"] for item in planned.items} == {"human", "augmented"}
        assert set(images_opened(planned)) == {1}


def test_docvqa_in_the_files_of_its_authors(tmp_path: Path) -> None:
    data = short_answers.docvqa_official(tmp_path)
    planned = plan(find("docvqa"), data)
    assert [(item.id, item.gold) for item in planned.items] == [("100", ("January 5", "5 January")), ("101", ("0.28",))]
    assert images_opened(planned) == [1, 1]
    # One letter of nine differs; three of four digits differ.
    results = scored("docvqa", planned, "january 6", "0.999")
    assert [one.grade for one in results.scores] == [pytest.approx(8 / 9), 0]
    assert {name: metric.total for name, metric in by_name(results).items()} == {
        "overall/Overall": 2,
        "question_type/form": 2,
        "question_type/layout": 1,
    }


def test_test_splits_are_asked_and_not_scored(tmp_path: Path) -> None:
    for name, data in (
        ("docvqa", short_answers.docvqa_official(tmp_path / "a")),
        ("docvqa", short_answers.docvqa(tmp_path / "b")),
        ("textvqa", short_answers.textvqa(tmp_path / "c")),
    ):
        planned = plan(find(name), data, "test")
        assert {item.gold for item in planned.items} == {()}
        assert set(images_opened(planned)) == {1}


def test_infographicvqa_in_the_files_of_its_authors(tmp_path: Path) -> None:
    planned = plan(find("infographicvqa"), short_answers.infographicvqa_official(tmp_path))
    assert images_opened(planned) == [1]
    metrics = by_name(scored("infographicvqa", planned, "Four"))
    assert {name: metric.correct for name, metric in metrics.items()} == {
        "overall/Overall": 1,
        "answer_type/non-extractive": 1,
        "evidence/Text": 1,
        "evidence/Figure": 1,
        "operation/counting": 1,
    }


def test_the_official_predictions_of_docvqa_are_read(tmp_path: Path) -> None:
    path = short_answers.save_json(tmp_path / "replies.json", [{"questionId": 100, "answer": "January 5"}])
    assert {key: reply.text for key, reply in read_predictions(path).items()} == {"100": "January 5"}
