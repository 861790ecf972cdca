"""Rules of single benchmarks: published formats, random choices and aggregates."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from colm_vl.errors import InputError
from eval.benchmarks.registry import find
from eval.evaluator import plan
from eval.predictions import read_predictions
from eval.scoring import matching
from eval.scoring.scorer import score
from eval.types import Item, Metric, Reply, Rule, Score, letters
from tests.eval import published


def metrics(name: str, items: list[Item], said: Mapping[str, str], *, partial: bool = False) -> dict[str, Metric]:
    replies = {key: Reply(text) for key, text in said.items()}
    table = score(find(name), items, replies, Rule.OFFICIAL, partial=partial)
    return {metric.name: metric for metric in table.metrics}


def test_mmbench_of_the_hub_has_no_options_called_nan(tmp_path: Path) -> None:
    planned = plan(find("mmbench"), published.mmbench_hub(tmp_path))
    assert [(item.id, item.options) for item in planned.items] == [("7", ("cat", "dog")), ("8", ("A and B", "neither"))]
    assert [query.question for query in planned.questions] == ["What is it?"] * 2
    assert planned.items[0].groups == {"ability": "y", "category": "x"}


def test_circular_takes_the_rotations_of_the_file(tmp_path: Path) -> None:
    """A question without rotations in the file is a unit of its own."""
    planned = plan(find("mmbench_circular"), published.mmbench_hub(tmp_path))
    assert [(item.id, item.unit, item.options[0], item.gold) for item in planned.items] == [
        ("7", "7", "cat", ("B",)),
        ("1000007", "7", "dog", ("A",)),
        ("8", "8", "A and B", ("A",)),
    ]
    by_name = metrics("mmbench_circular", list(planned.items), {"7": "B", "1000007": "B", "8": "A"})
    assert (by_name["Overall"].correct, by_name["Overall"].total) == (1, 2)
    assert (by_name["each way"].correct, by_name["each way"].total) == (2, 3)
    part = metrics("mmbench_circular", list(planned.items), {"7": "B", "8": "A"}, partial=True)
    assert (part["Overall"].correct, part["Overall"].total) == (1, 2)


def test_seed_bench_takes_types_one_to_nine(tmp_path: Path) -> None:
    planned = plan(find("seed_bench"), published.seed_bench_hub(tmp_path))
    assert [(item.id, item.gold, item.groups["dimension"]) for item in planned.items] == [
        ("101", ("D",), "Scene Understanding"),
        ("109", ("D",), "Text Understanding"),
    ]
    assert [len(query.images) for query in planned.questions] == [1, 1]


def test_seed_bench_goes_by_the_type_not_the_data(tmp_path: Path) -> None:
    choices = {f"choice_{letter}": letter for letter in "abcd"}
    rows = [
        {"question": "?", "answer": "A", "question_id": kind, "question_type_id": kind, **choices} for kind in (9, 10)
    ]
    (tmp_path / "x.json").write_text(json.dumps({"questions": rows}))
    assert [item.id for item in find("seed_bench").gold(tmp_path / "x.json", "test")] == ["9"]


@pytest.mark.parametrize(("answer", "letter"), [("0", "A"), ("3", "D"), ("C", "C")])
def test_ai2d_answers_are_indexes_from_0(answer: str, letter: str, tmp_path: Path) -> None:
    """Also if the options are numbers."""
    row = {"question": "?", "options": ["3", "2", "1", "0"], "answer": answer, "image": published.picture()}
    published.parquet(tmp_path / "data" / "test-00000-of-00001.parquet", [row])
    assert plan(find("ai2d"), tmp_path).items[0].gold == (letter,)


def test_mmstar_of_the_hub_lists_its_options_in_the_question(tmp_path: Path) -> None:
    planned = plan(find("mmstar"), published.mmstar(tmp_path))
    first = planned.items[0]
    assert (first.question, first.options) == ("Which is it, 0?", ("a cat", "a dog, big", "one, two", "none."))
    assert first.groups == {"capability": "coarse perception", "axis": "image emotion"}
    row = {"index": 1, "question": "Which?\nA. a cat\nB. a dog", "answer": "D", "category": "math", "image": b"x"}
    published.parquet(tmp_path / "other" / "mmstar.parquet", [row])
    other = plan(find("mmstar"), tmp_path / "other").items[0]
    assert (other.question, other.options, other.gold) == ("Which?\nA. a cat\nB. a dog", tuple("ABCD"), ("D",))


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("b", "B"),
        ("(B) a dog", "B"),
        ("Option B", "B"),
        ("The answer is B.", "B"),
        ("a dog", "A"),  # the article
        ("The answer is (B)", ""),
        ("It is B", ""),
        ("", ""),
    ],
)
def test_mmstar_letters_open_the_reply(reply: str, letter: str) -> None:
    item = Item("1", "?", ("B",), options=("a cat", "a dog", "a cow", "none"))
    assert find("mmstar").official(item, reply).value == letter


def test_realworldqa_has_letters_and_words(tmp_path: Path) -> None:
    planned = plan(find("realworldqa"), published.realworldqa(tmp_path))
    assert [(item.kind, item.question, item.options, item.gold) for item in planned.items][1:] == [
        ("choice", "Where to, 1?", ("Left", "Right", "Straight"), ("B",)),
        ("open", "How many?\n\nPlease answer directly with a single word or number.", (), ("2",)),
    ]
    assert metrics("realworldqa", list(planned.items), {"0": "B", "1": "the left", "2": "2."})["Overall"].correct == 2
    replies = {"0": Reply("**B**"), "1": Reply("Right"), "2": Reply("I count.\nAnswer: 2")}
    assert score(find("realworldqa"), planned.items, replies, Rule.LENIENT).overall.correct == 3


def test_realworldqa_in_the_files_of_its_authors(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.webp").write_bytes(published.png())
    rows = [{"image": "0.webp", "question": "How many?", "answer": "2"}]
    (tmp_path / "annotations.json").write_text(json.dumps(rows))
    assert [len(query.images) for query in plan(find("realworldqa"), tmp_path).questions] == [1]


def test_mme_of_vlmevalkit_has_one_picture_a_question(tmp_path: Path) -> None:
    planned = plan(find("mme"), published.mme_tsv(tmp_path))
    assert [len(query.images) for query in planned.questions] == [1, 1]
    assert len({item.unit for item in planned.items}) == 1


def test_mme_requires_both_questions_of_a_picture(tmp_path: Path) -> None:
    items = list(plan(find("mme"), published.mme(tmp_path)).items)[:4]
    assert metrics("mme", items, {"0": "No", "1": "Yes", "2": "No", "3": "No"})["existence"].points == 75 + 50
    alone = metrics("mme", items, {"0": "No", "1": "Yes", "2": "No"}, partial=True)["existence"]
    assert alone.points == 100 + 50


def test_ocrbench_official_results(tmp_path: Path) -> None:
    """The official script writes each reply into its row of the file."""
    gold = published.ocrbench_official(tmp_path)
    results = tmp_path / "results.json"
    results.write_text(json.dumps([row | {"predict": row["type"]} for row in json.loads(gold.read_text())]))
    assert {key: reply.text for key, reply in read_predictions(results).items()} == {
        "svt_5": "Regular Text Recognition",
        "IAM_5": "Handwriting Recognition",
        "docVQA_5": "Doc-oriented VQA",
    }


def test_ocrbench_official_file(tmp_path: Path) -> None:
    planned = plan(find("ocrbench"), published.ocrbench_official(tmp_path))
    assert [item.id for item in planned.items] == ["svt_5", "IAM_5", "docVQA_5"]
    assert len({query.images[0].digest for query in planned.questions}) == 3
    said = {"svt_5": "It says:\nstop!", "IAM_5": "Halt", "docVQA_5": "1000"}
    by_name = metrics("ocrbench", list(planned.items), said)
    assert {name: (metric.correct, metric.total) for name, metric in by_name.items()} == {
        "Overall": (2, 3),
        "Text Recognition": (2, 2),
        "Regular Text Recognition": (1, 1),
        "Handwriting Recognition": (1, 1),
        "Doc-oriented VQA": (0, 1),
    }


@pytest.mark.parametrize(
    ("reply", "gold", "formula", "correct"),
    [
        ("THE\nEND", "the end", False, True),
        ("the  end", "the end", False, False),  # white space within counts
        (" stop ", "STOP\n", False, True),
        ("X _ { 1 }", "x_{1}", True, False),  # the case of formulas counts
        ("$x_{1} = 2$", "x _ { 1 } =\n2\n", True, True),
        ("x_1", "x_{1}", True, False),
    ],
)
def test_ocrbench_matches(reply: str, gold: str, formula: bool, correct: bool) -> None:
    assert matching.contains_accepted_text(reply, [gold], formula=formula) is correct


def mmlu_pro(*replies: str) -> tuple[list[Item], dict[str, Reply]]:
    items = [
        Item(str(number), "?", ("A",), options=("a", "b"), groups={"category": "math"})
        for number in range(len(replies))
    ]
    return items, {str(number): Reply(text) for number, text in enumerate(replies)}


def test_mmlu_pro_draws_in_two_rounds_from_one_seed() -> None:
    """The first round only parses the sentence, and uses up random numbers before the second."""
    items, replies = mmlu_pro("The answer is B", "none", "Answer: B", "nor this", "B")
    drawn: list[Score] = [
        one for one in score(find("mmlu_pro"), items, replies, Rule.OFFICIAL).scores if one.how == "drawn"
    ]
    generator = random.Random(12345)
    rounds = [[generator.choice(letters(10)) for _ in range(count)] for count in (4, 2)]
    assert [(one.id, one.value) for one in drawn] == [("1", rounds[1][0]), ("3", rounds[1][1])]
    assert rounds[1] == ["D", "E"]


def test_mmlu_pro_drops_options_that_only_fill_up(tmp_path: Path) -> None:
    row = {"question_id": 1, "question": "?", "options": ["a", "b", "N/A", "N/A"], "answer": "B", "category": "law"}
    published.parquet(tmp_path / "test.parquet", [row])
    assert plan(find("mmlu_pro"), tmp_path).items[0].options == ("a", "b")


def test_mmmu_pro_has_questions_of_other_sizes(tmp_path: Path) -> None:
    common = {"question": "?", "subject": "Music", "image_1": published.picture()}
    options = [f"option {number}" for number in range(12)]
    rows = [
        {"id": "test_Music_1", "options": str(options), "answer": "L", **common},
        {"id": "test_Music_2", "options": str(options[:1]), "answer": "A", **common},
    ]
    published.parquet(tmp_path / "standard (10 options)" / "test-00000-of-00001.parquet", rows)
    assert [item.gold for item in plan(find("mmmu_pro"), tmp_path).items] == [("L",), ("A",)]
    rows[0]["answer"] = "M"
    published.parquet(tmp_path / "standard (10 options)" / "test-00000-of-00001.parquet", rows)
    with pytest.raises(InputError, match="answer 'M' is not one of its 12 options"):
        plan(find("mmmu_pro"), tmp_path)


def test_scienceqa_results_without_an_answer_are_not_drawn(tmp_path: Path) -> None:
    """LLaVA's authors store -1 for a reply that they could not parse."""
    gold = tmp_path / "gold.jsonl"
    rows = [{"pid": str(number), "question": "?", "choices": ["a"], "answer": 0} for number in range(3)]
    gold.write_text("\n".join(map(json.dumps, rows)))
    results = tmp_path / "results.json"
    results.write_text(json.dumps({"outputs": dict.fromkeys("012", "none"), "results": {"0": -1, "1": 0}}))
    scored = score(find("scienceqa"), find("scienceqa").gold(gold, "test"), read_predictions(results), Rule.OFFICIAL)
    assert [(one.how, one.correct) for one in scored.scores] == [
        ("unparsed", False),
        ("stored draw", True),
        ("drawn", True),
    ]


def test_mmmu_pro_has_a_question_that_is_never_correct(tmp_path: Path) -> None:
    row = {"id": "validation_Accounting_29", "options": "[['A', 'B', 'Not enough information']]", "answer": "B"}
    row |= {"subject": "Accounting", "question": "?", "image_1": published.picture()}
    published.parquet(tmp_path / "test.parquet", [row])
    planned = plan(find("mmmu_pro"), tmp_path)
    assert [query.choices for query in planned.questions] == [()]
    for rule in (Rule.OFFICIAL, Rule.STRICT, Rule.LENIENT):
        for said in ("Answer: A", "Answer: B", "B"):
            assert not score(find("mmmu_pro"), planned.items, {planned.items[0].id: Reply(said)}, rule).overall.correct


def lettered(path: Path, *options: str, answer: str = "A") -> Item:
    row = {"index": "1", "question": "?", "image": published.base64_png(), "category": "x", "answer": answer}
    published.tsv(path / "x.tsv", [row | dict(zip(letters(len(options)), options, strict=True))])
    return plan(find("mmbench"), path / "x.tsv").items[0]


def test_an_option_called_nan_keeps_the_options_after_it(tmp_path: Path) -> None:
    assert lettered(tmp_path, "cat", "nan", "cow", "nan", answer="C").options == ("cat", "nan", "cow")
    assert lettered(tmp_path, "cat", "cow", "nan", answer="C").options == ("cat", "cow", "nan")
    assert lettered(tmp_path, "cat", "", "cow", answer="C").options == ("cat", "", "cow")


def test_more_than_ten_lettered_columns(tmp_path: Path) -> None:
    item = lettered(tmp_path, *(f"option {number}" for number in range(12)), answer="L")
    assert (len(item.options), item.gold) == (12, ("L",))


def test_options_that_vlmevalkit_drops_are_noted(tmp_path: Path) -> None:
    item = lettered(tmp_path, "cat", "None")
    table = score(find("mmbench"), [item], {"1": Reply("A")}, Rule.OFFICIAL)
    assert "1 of the questions have an option spelled None" in table.notes[0]
    assert not score(find("mmbench"), [lettered(tmp_path, "cat", "cow")], {"1": Reply("A")}, Rule.OFFICIAL).notes


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("Failed to obtain answer via API. A", ""),
        ("Failed to obtain answer via API: cow", "C"),
        ("B", ""),
        ("a cow", "C"),
    ],
)
def test_failed_calls_and_empty_options_of_vlmevalkit(reply: str, letter: str) -> None:
    assert matching.parse_option(reply, ("a very large black cat", "", "cow")).value == letter
