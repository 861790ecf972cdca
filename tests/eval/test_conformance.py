"""The official scores, reproduced from published outputs of models. The data are not part of the project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eval.benchmarks.registry import find
from eval.predictions import read_predictions
from eval.scoring.scorer import score
from eval.types import Metric, Results, Rule

ROOT = Path(__file__).resolve().parents[2]
CONFORMANCE = ROOT.parent / "shared" / "conformance"

pytestmark = pytest.mark.skipif(
    not CONFORMANCE.exists(), reason="the conformance data are not in ../shared/conformance of this checkout"
)


def table(name: str, gold: str, predictions: Path | str, rule: Rule) -> Results:
    benchmark = find(name)
    items = benchmark.gold(CONFORMANCE / name / gold, benchmark.splits[0])
    return score(benchmark, items, read_predictions(CONFORMANCE / name / predictions), rule)


def mmmu(predictions: Path | str, rule: Rule) -> Results:
    return table("mmmu", "answer_dict_val.json", predictions, rule)


def scienceqa(rule: Rule) -> dict[str, Metric]:
    metrics = table("scienceqa", "test_gold.jsonl", "llava_13b_v0_outputs.jsonl", rule).metrics
    return {metric.name: metric for metric in metrics}


def official_layout(scored: Results) -> dict[str, dict[str, Any]]:
    prefixes = {"discipline": "Overall-"}
    return {
        prefixes.get(metric.group, "") + metric.name: {"num": metric.total, "acc": round(metric.accuracy, 3)}
        for metric in scored.metrics
    }


def mmmu_expected() -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((CONFORMANCE / "mmmu" / "expected_llava1.5_13b.json").read_text())["table"]
    return expected


@pytest.mark.parametrize("predictions", ["llava1.5_13b_responses.json", "llava1.5_13b_parsed.json"])
def test_mmmu_official_table(predictions: str) -> None:
    scored = mmmu(predictions, Rule.OFFICIAL)
    assert official_layout(scored) == mmmu_expected()
    assert len(scored.metrics) == 37
    assert round(scored.overall.accuracy, 3) == 0.367


def test_mmmu_from_a_folder_of_outputs(tmp_path: Path) -> None:
    responses = json.loads((CONFORMANCE / "mmmu" / "llava1.5_13b_responses.json").read_text())
    for subject, rows in responses.items():
        (tmp_path / subject).mkdir()
        (tmp_path / subject / "output.json").write_text(json.dumps(rows))
    assert official_layout(mmmu(tmp_path, Rule.OFFICIAL)) == mmmu_expected()


def test_mmmu_reads_as_the_official_parser_did() -> None:
    parsed = json.loads((CONFORMANCE / "mmmu" / "llava1.5_13b_parsed.json").read_text())
    scored = mmmu("llava1.5_13b_responses.json", Rule.OFFICIAL)
    letters = {one.id: one.value for one in scored.scores if one.value in tuple("ABCDEFGHI")}
    assert len(letters) == 847
    assert letters == {id_: parsed[id_] for id_ in letters}
    assert scored.parsed_by == {"letter": 836, "whole reply": 53, "bracket": 8, "drawn": 2, "content": 1}


def test_mmmu_strict() -> None:
    scored = mmmu("llava1.5_13b_responses.json", Rule.STRICT)
    assert (scored.overall.correct, scored.overall.total) == (329, 900)
    assert scored.parsed_by["unparsed"] == 2


def test_scienceqa_strict() -> None:
    metrics = scienceqa(Rule.STRICT)
    assert metrics["AVG"].correct == 3855
    percent = {name: round(100 * metric.accuracy, 2) for name, metric in metrics.items()}
    assert percent == {"AVG": 90.90, "TXT": 89.49, "IMG": 88.00, "NO": 90.59}


def test_scienceqa_official_with_the_stored_draw_is_the_published_row() -> None:
    expected = json.loads((CONFORMANCE / "scienceqa" / "expected_llava_13b_v0.json").read_text())["table"]
    found = {
        name: {"correct": metric.correct, "n": metric.total, "acc": round(100 * metric.accuracy, 2)}
        for name, metric in scienceqa(Rule.OFFICIAL).items()
    }
    assert found == expected


@pytest.mark.parametrize(
    ("name", "gold", "predictions"),
    [
        ("mmmu", "answer_dict_val.json", "llava1.5_13b_responses.json"),
        ("mmmu", "answer_dict_val.json", "llava1.5_13b_parsed.json"),
        ("scienceqa", "test_gold.jsonl", "llava_13b_v0_outputs.jsonl"),
    ],
)
def test_lenient_is_at_least_as_good_as_strict(name: str, gold: str, predictions: str) -> None:
    lenient, strict = (table(name, gold, predictions, rule).overall for rule in (Rule.LENIENT, Rule.STRICT))
    assert lenient.correct >= strict.correct


def test_the_command_loads_no_model_library() -> None:
    command = f"""
import json, sys
sys.argv = ["eval", "score", "mmmu", "--gold", {str(CONFORMANCE / "mmmu/answer_dict_val.json")!r}, "--predictions",
            {str(CONFORMANCE / "mmmu/llava1.5_13b_responses.json")!r}, "--rule", "official", "--json"]
from eval.cli import main
try:
    main()
finally:
    assert not {{"torch", "transformers"}} & set(sys.modules), "a model library was imported"
"""
    done = subprocess.run([sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["metrics"][0]["correct"] == 330
    assert printed["coverage"] == 1.0
