"""Benchmarks compared with the scripts of their authors on generated replies: docs/benchmarks.md lists the figures.

The scripts are not part of this project. `COLM_VL_REFERENCES` names a folder with clones of their repositories.
"""

from __future__ import annotations

import ast
import json
import logging
import os
import random
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eval.benchmarks.registry import find
from eval.evaluator import plan
from eval.metrics.anls import levenshtein
from eval.metrics.vqa import normalize
from eval.scoring.scorer import score
from eval.types import Item, Reply, Rule
from tests.eval import mathvista_rows, short_answers, yes_no_answers

REPLIES = 4_000
REFERENCES = "COLM_VL_REFERENCES"
VQA = "VQA/PythonEvaluationTools/vqaEvaluation/vqaEval.py"
TEXTVQA = "mmf/mmf/utils/m4c_evaluators.py"
VIZWIZ = "vlm-evaluation/vlm_eval/util/evaluation/vizwiz/eval.py"
POPE = "POPE/evaluate.py"
HALLUSION_BENCH = "HallusionBench/utils.py"
MATHVISTA = "MathVista/evaluation/{}.py"
WORDS = (
    "a", "the", "dog", "two", "2", "2.", "1,000", "yes", "Yes", "no.", "red-white", "bob's", "dont", "it's", "x/y",
    "3.5", "$5", "(b)", "T-shirt", "hello, world", "what?", "U.S.", "10:30", "50%", "none", "black & white", "N/A",
    ".", "a.b", "5 .", "", "\n", "couldnt've",
)  # fmt: skip


def text_of(file: str) -> str:
    path = Path(os.environ.get(REFERENCES, "")) / file
    if REFERENCES not in os.environ or not path.exists():
        pytest.skip(f"{REFERENCES} names no folder with {file}: see docs/benchmarks.md")
    return path.read_text()


def reference(file: str, name: str, **needed: Any) -> Callable[..., Any]:
    """A function or class of a script, without its imports."""
    scope = {"re": re, "np": np, "logging": logging, "sys": sys, **needed}
    text = re.sub(r"^(\s*)print .*$", r"\1pass", text_of(file), flags=re.MULTILINE)  # Python 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # invalid escapes
        tree = ast.parse(text)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                with suppress(NameError):  # what needs another import is not called
                    exec(compile(ast.Module([node], []), file, "exec"), scope)
    found: Callable[..., Any] = scope[name]
    return found


def annotated_replies() -> list[tuple[list[str], str]]:
    """Ten answers, and a reply that often is one of them with other marks or another case."""
    rng = random.Random(1)

    def phrase() -> str:
        return rng.choice((" ", "  ", ", ", "-", ". ")).join(rng.choices(WORDS, k=rng.choice((1, 1, 2, 3))))

    found = []
    while len(found) < REPLIES:
        pool = [phrase() for _ in range(rng.choice((1, 2, 3)))]
        reply = rng.choice([*pool, phrase()])
        reply = rng.choice([reply, reply, reply.upper(), f"{reply}.", f" {reply}\t"])
        if reply.strip():
            found.append((rng.choices(pool, k=10), reply))
    return found


def graded(name: str, golds: Sequence[str], reply: str) -> float:
    item = Item("1", "?", tuple(golds), "open")
    benchmark = find(name)
    return benchmark.score(item, benchmark.official(item, reply)).grade


def by_vqa(golds: Sequence[str], reply: str, script: Callable[..., Any]) -> float:
    annotations = [{"answer": text, "answer_id": number} for number, text in enumerate(golds)]
    question = {"answers": annotations, "question_type": "", "answer_type": ""}
    evaluation = script(
        SimpleNamespace(getQuesIds=lambda: [1], qa={1: question}), SimpleNamespace(qa={1: {"answer": reply}}), n=9
    )
    evaluation.updateProgress = lambda progress: None
    evaluation.evaluate()
    return float(evaluation.accuracy["overall"]) / 100


def by_textvqa(golds: Sequence[str], reply: str, script: Callable[..., Any]) -> float:
    return float(script().eval_pred_list([{"pred_answer": reply, "gt_answers": golds}]))


def by_vizwiz(golds: Sequence[str], reply: str, script: Callable[..., Any]) -> float:
    evaluation = script({1: {"answers": [{"answer": text} for text in golds]}}, {1: {"answer": reply}}, n=9)
    evaluation.updateProgress = lambda progress: None
    evaluation.evaluate()
    return float(evaluation.accuracy["overall"]) / 100


@pytest.mark.parametrize(
    ("name", "file", "script", "grade"),
    [
        ("vqav2", VQA, "VQAEval", by_vqa),
        ("textvqa", TEXTVQA, "TextVQAAccuracyEvaluator", by_textvqa),
        ("vizwiz", VIZWIZ, "VQAEval", by_vizwiz),
    ],
)
def test_agreement_with_annotators(name: str, file: str, script: str, grade: Callable[..., float]) -> None:
    copy = SimpleNamespace(deepcopy=lambda value: value)
    found = reference(file, script, copy=copy)
    different = [
        (golds, reply)
        for golds, reply in annotated_replies()
        # The contractions of VizWiz have typographic apostrophes, which no published answer has.
        if not (name == "vizwiz" and "'" in normalize(reply))
        and graded(name, golds, reply) != pytest.approx(grade(golds, reply, found))
    ]
    assert not different


def test_pope(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = text_of(POPE)
    rng = random.Random(1)
    words = ("Yes", "no", "No", "not", "is", "a", "there", ".", ",", "dog", "NO", "nothing", "yes.", "no,")
    labels = rng.choices(("yes", "no"), k=REPLIES)
    planned = plan(find("pope"), yes_no_answers.pope_official(tmp_path, {"random": labels}))
    replies = {item.id: " ".join(rng.choices(words, k=3)) for item in planned.items}
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps({"answer": reply}) + "\n" for reply in replies.values()))
    script = script.replace("ans_file = ''", f"ans_file = {str(answers)!r}")
    script = script.replace("label_file = ''", f"label_file = {str(tmp_path / 'coco_pope_random.json')!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        exec(compile(script, POPE, "exec"), {})
    said = dict(line.split(": ") for line in capsys.readouterr().out.splitlines() if ": " in line)
    found = score(find("pope"), planned.items, {key: Reply(text) for key, text in replies.items()}, Rule.OFFICIAL)
    ours = {metric.group: metric for metric in found.metrics if metric.name.endswith("random")}
    assert ours["part"].accuracy == pytest.approx(float(said["Accuracy"]))
    for group, theirs in (
        ("precision", "Precision"),
        ("recall", "Recall"),
        ("F1", "F1 score"),
        ("yes ratio", "Yes ratio"),
    ):
        assert ours[group].points == pytest.approx(100 * float(said[theirs]))


@pytest.mark.parametrize("seed", range(4))
def test_hallusion_bench(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    rows = [
        yes_no_answers.hallusion_row(category, number, figure, question, rng.randrange(2))
        for category in ("VD", "VS")
        for number in range(100)
        for questions in (rng.randint(1, 3),)
        for figure in range(rng.randint(1, 3))
        for question in range(questions)
    ]
    (tmp_path / "HallusionBench.json").write_text(json.dumps(rows))
    items = find("hallusion_bench").gold(tmp_path, "all")
    replies = {item.id: Reply(rng.choice((item.gold[0], item.gold[0], "yes", "no"))) for item in items}
    found = score(find("hallusion_bench"), items, replies, Rule.OFFICIAL)
    for row, one in zip(rows, found.scores, strict=True):
        row |= {"check": str(int(one.correct)), "same": "0"}
    rows = reference(HALLUSION_BENCH, "assign_correctness")(rows, "check")
    theirs = {
        "Overall": reference(HALLUSION_BENCH, "get_eval_all")(rows, "check"),
        "fAcc": reference(HALLUSION_BENCH, "get_eval_fig")(rows),
        "qAcc": reference(HALLUSION_BENCH, "get_eval_pair_all")(rows, "check"),
    }
    ours = {metric.name: (metric.correct, metric.total) for metric in found.metrics}
    assert {name: ours[name] for name in theirs} == {
        name: (value["correct"], value["total"]) for name, value in theirs.items()
    }


def test_mathvista(tmp_path: Path) -> None:
    extract = reference(MATHVISTA.format("extract_answer"), "extract_answer")
    file = MATHVISTA.format("calculate_score")
    normalized = reference(file, "normalize_extracted_answer", distance=levenshtein)
    rng = random.Random(1)
    numbers, choices = ("14", "14.0", "1.25", "-3", "1e3", " 14 "), ("(B)", "(c) dog", "B", "dog", "a dog")
    parts = (*numbers, *choices, "[1, 2]", "many", "", "(")
    problems = [
        mathvista_rows.problem(1, "1.2", "float"),
        mathvista_rows.problem(2, "1.25", "float"),
        mathvista_rows.problem(3, "14", "integer"),
        mathvista_rows.problem(4, "dog", choices=["cat", "dog", "14", "a dog", "dog"]),
        mathvista_rows.problem(5, "[1, 2]", "list"),
    ]
    gold = short_answers.save_json(tmp_path / "testmini.json", problems)
    items = {item.id: item for item in find("mathvista").gold(gold, "testmini")}
    different = []
    for _ in range(REPLIES):
        row = {**rng.choice(problems), "query": ""}
        item = items[row["pid"]]
        said = " ".join(rng.choices(parts, k=rng.choice((1, 1, 2))))
        reply = rng.choice((said, f'So. The answer is "{said}".', f"The answer is {said}."))
        extraction = extract(None, reply, row, quick_extract=True)  # without a judge, "" for the rest
        prediction = normalized(
            extraction, row["choices"], row["question_type"], row["answer_type"], row["precision"], bool("ignore empty")
        )
        benchmark = find("mathvista")
        ours = benchmark.score(item, benchmark.official(item, reply)).correct
        if ours != (prediction == row["answer"]):
            different.append((row["answer"], reply, prediction))
    assert not different
