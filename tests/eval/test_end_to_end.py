"""Every benchmark from published rows through a scripted team and scoring to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from colm_vl.errors import InputError
from eval import cli
from eval.benchmarks.registry import find, known
from eval.client_answers import reply_of
from eval.evaluator import ANSWER_FILES, plan, run
from eval.report.write import write_report
from eval.run_folder import read_evaluation
from eval.scoring.scorer import score
from eval.slug import slug
from eval.types import Rule
from tests.eval import mathvista_rows, published, short_answers, yes_no_answers
from tests.teams import Scripted, scripted

STRATEGIES = ("solo:one", "vote", "colm")
PACKAGED = frozenset({"pocket", "easy_vqa"})
"""Benchmarks that have no files."""
PUBLISHED = {**published.PUBLISHED, **short_answers.PUBLISHED, **yes_no_answers.PUBLISHED, **mathvista_rows.PUBLISHED}
SCORED = [name for name, benchmark in known().items() if benchmark.scored and name not in PACKAGED]
WRITTEN = [name for name, benchmark in known().items() if not benchmark.scored]


def team(answer: str, refined: str | None = None) -> Scripted:
    said = [{"when": "Guidance from", "text": f"Answer: {refined or answer}"}, f"Answer: {answer}"]
    return scripted({"one": said, "two": said}, ["Evidence: it is there\nDisagreement: none\nCheck: all"])


RIGHT = {
    "mme": "yes",
    "pope": "no",
    "hallusion_bench": "no",
    "gsm8k": "1,000",
    "ocrbench": "the word B",
    "mmbench_circular": "None",
}
WRONG = {"mme": "perhaps", "pope": "yes", "hallusion_bench": "perhaps", "gsm8k": "many", "ocrbench": "no"}


def ask(name: str, data: Path | None, out: Path, colm: Scripted, **options: Any) -> None:
    with colm:
        list(run(colm, plan(find(name), data, **options), STRATEGIES, out))


def test_every_benchmark_has_published_rows() -> None:
    assert {*SCORED, *WRITTEN} == set(PUBLISHED)


@pytest.mark.parametrize("name", SCORED)
def test_load_ask_score_report(name: str, tmp_path: Path) -> None:
    data = PUBLISHED[name](tmp_path)
    options = {"subjects": ["Math", "Art_Theory"]} if name == "mmmu" else {}
    colm = team(WRONG.get(name, "(A)"), RIGHT.get(name, "(B)"))
    ask(name, data, tmp_path / "run", colm, **options)
    write_report([tmp_path / "run"], tmp_path / "report")
    found = json.loads((tmp_path / "report" / "report.json").read_text())["runs"][0]
    by_name = {one["name"]: one for one in found["strategies"]}
    assert list(by_name) == list(STRATEGIES)
    assert by_name["colm"]["accuracy"] > by_name["vote"]["accuracy"]
    assert all(one["failed"] == 0 for one in found["strategies"])
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "://" not in page


@pytest.mark.parametrize("name", WRITTEN)
def test_answer_files_for_judges(name: str, tmp_path: Path) -> None:
    data = PUBLISHED[name](tmp_path)
    ask(name, data, tmp_path / "run", team("a sonnet", "a better sonnet"))
    files = {path.name for path in (tmp_path / "run" / ANSWER_FILES).iterdir()}
    suffix = "json" if name == "alpaca_eval" else "jsonl"
    assert files == {f"{slug('solo:one')}.{suffix}", f"vote.{suffix}", f"colm.{suffix}"}
    text = (tmp_path / "run" / ANSWER_FILES / f"colm.{suffix}").read_text()
    row = json.loads(text)[0] if suffix == "json" else json.loads(text.splitlines()[0])
    match name:
        case "alpaca_eval":
            assert row["output"] == "a better sonnet"
            assert row["generator"] == "colm"
            assert row["instruction"] == "Write 0."
        case "mt_bench":
            assert row["question_id"] == 81
            assert row["choices"] == [{"index": 0, "turns": ["a better sonnet", "a better sonnet"]}]
        case _:
            assert row["uid"] == "ab12"
            assert row["messages"][1] == {"role": "assistant", "content": {"answer": "a better sonnet"}}


def test_a_judge_reads_all_lines_of_an_answer(tmp_path: Path) -> None:
    sonnet = "A sonnet:\n\n- one line\n- another"
    ask("alpaca_eval", PUBLISHED["alpaca_eval"](tmp_path), tmp_path / "run", team(f"{sonnet}\nConfidence: 80"))
    for strategy in ("vote", "colm"):
        rows = json.loads((tmp_path / "run" / ANSWER_FILES / f"{strategy}.json").read_text(encoding="utf-8"))
        assert rows[0]["output"] == sonnet


def test_the_second_turn_knows_the_first(tmp_path: Path) -> None:
    colm = team("a sonnet")
    ask("mt_bench", published.mt_bench(tmp_path), tmp_path / "run", colm)
    second = [request for request in colm.requests("one") if "Shorter." in request.messages[-1].text]
    assert "You answered:\na sonnet" in second[0].messages[-1].text


def test_pictures_reach_the_model_in_order(tmp_path: Path) -> None:
    colm = team("(A)")
    ask("mmmu", published.mmmu(tmp_path), tmp_path / "run", colm, subjects=["Math"])
    first = colm.requests("one")[0].messages[-1].parts
    assert sum(not isinstance(part, str) for part in first) == 2


def test_vision_hides_the_options(tmp_path: Path) -> None:
    colm = team("(B)")
    ask("mmmu_pro_vision", published.mmmu_pro("vision")(tmp_path), tmp_path / "run", colm)
    asked = colm.requests("one")[0].messages[-1].text
    assert "option 3" not in asked
    assert "(J)" in asked


def test_a_second_run_calls_nothing_again(tmp_path: Path) -> None:
    data = published.ai2d(tmp_path)
    ask("ai2d", data, tmp_path / "run", team("(B)"))
    again = team("(B)")
    ask("ai2d", data, tmp_path / "run", again)
    assert not again.requests("one")


def test_another_benchmark_into_the_same_folder_is_refused(tmp_path: Path) -> None:
    ask("ai2d", published.ai2d(tmp_path / "a"), tmp_path / "run", team("(B)"))
    with pytest.raises(Exception, match="holds a run of 'ai2d'"):
        ask("mme", published.mme(tmp_path / "m"), tmp_path / "run", team("(B)"))


def test_a_refused_run_leaves_the_finished_one_as_it_is(tmp_path: Path) -> None:
    data, out = published.ai2d(tmp_path), tmp_path / "run"
    ask("ai2d", data, out, team("(B)"))
    before = read_evaluation(out).items
    with team("(B)") as colm, pytest.raises(InputError, match="other settings"):
        list(run(colm, plan(find("ai2d"), data, limit=1), STRATEGIES, out, rounds=2))
    assert read_evaluation(out).items == before


def test_a_file_is_no_folder_to_write_to(tmp_path: Path) -> None:
    data, file = published.ai2d(tmp_path), tmp_path / "file"
    file.touch()
    with pytest.raises(InputError, match="file: cannot be used"):
        ask("ai2d", data, file, team("(B)"))
    ask("ai2d", data, tmp_path / "run", team("(B)"))
    with pytest.raises(InputError, match="file: cannot be written to"):
        write_report([tmp_path / "run"], file)


def test_circular_requires_every_rotation(tmp_path: Path) -> None:
    data = published.mmbench(tmp_path)
    ask("mmbench_circular", data, tmp_path / "run", team("(B)"))
    evaluation = read_evaluation(tmp_path / "run")
    # Two, three and three options; the letter B is correct in one rotation of each.
    assert [(item.id, item.options, item.gold) for item in evaluation.items.values()][:2] == [
        ("0", ("cat", "None"), ("B",)),
        ("1000000", ("None", "cat"), ("A",)),
    ]
    write_report([tmp_path / "run"], tmp_path / "report")
    found = json.loads((tmp_path / "report" / "report.json").read_text())["runs"][0]["strategies"][0]
    metrics = {metric["name"]: metric for metric in found["rules"]["strict"]["metrics"]}
    assert (metrics["Overall"]["correct"], metrics["Overall"]["total"]) == (0, 3)
    assert (metrics["each way"]["correct"], metrics["each way"]["total"]) == (3, 8)


def test_mme_adds_pairs_up(tmp_path: Path) -> None:
    ask("mme", published.mme(tmp_path), tmp_path / "run", team("yes"))
    write_report([tmp_path / "run"], tmp_path / "report")
    found = json.loads((tmp_path / "report" / "report.json").read_text())["runs"][0]["strategies"][0]
    metrics = {metric["name"]: metric["points"] for metric in found["rules"]["official"]["metrics"]}
    assert metrics == {"Overall": 100, "Perception": 50, "Cognition": 50, "existence": 50, "code_reasoning": 50}


def test_scienceqa_official_folder_and_its_picture_questions(tmp_path: Path) -> None:
    data = published.scienceqa_official(tmp_path)
    whole = plan(find("scienceqa"), data)
    pictured = plan(find("scienceqa"), data, subjects=["IMG"])
    assert [item.id for item in whole.items] == ["11", "12", "13", "14"]
    assert [item.id for item in pictured.items] == ["11", "13"]
    assert all(len(query.images) == 1 for query in pictured.questions)
    assert whole.items[1].groups == {"subject": "LAN", "text": "TXT", "grade": "G1-6"}


def test_the_report_shows_what_score_notes(tmp_path: Path) -> None:
    """Such as that some options of MMBench are spelled like missing values."""
    ask("mmbench", published.mmbench(tmp_path), tmp_path / "run", team("(B)"))
    write_report([tmp_path / "run"], tmp_path / "report")
    note = "of the questions have an option spelled None, NA, nan or similar"
    assert note in (tmp_path / "report" / "report.md").read_text()
    assert note in (tmp_path / "report" / "report.html").read_text()
    (found,) = json.loads((tmp_path / "report" / "report.json").read_text())["runs"][0]["notes"]
    assert note in found


def test_report_of_several_runs(tmp_path: Path) -> None:
    for name in ("ai2d", "mme"):
        ask(name, PUBLISHED[name](tmp_path / name), tmp_path / f"run-{name}", team("(B)"))
    written = write_report([tmp_path / "run-ai2d", tmp_path / "run-mme"], tmp_path / "report", Rule.OFFICIAL)
    assert {"run-ai2d-accuracy.png", "run-mme-accuracy.png"} <= {path.name for path in written}


def test_runs_of_the_same_name_have_plots_of_their_own(tmp_path: Path) -> None:
    for place in ("a", "b"):
        ask("ai2d", published.ai2d(tmp_path / place), tmp_path / place / "run", team("(B)"))
    written = write_report([tmp_path / "a" / "run", tmp_path / "b" / "run"], tmp_path / "report")
    assert len(written) == len({*written}) == 3 + 2 * 4
    found = json.loads((tmp_path / "report" / "report.json").read_text())["runs"]
    assert [one["label"] for one in found] == ["a/run", "b/run"]
    with pytest.raises(InputError, match="is given twice"):
        write_report([tmp_path / "a" / "run"] * 2, tmp_path / "report")


def test_clients_of_any_name_have_answer_files_of_their_own(tmp_path: Path) -> None:
    names = ("a/b", "a b", "A:b", "a-b")
    colm = scripted({name: ["Answer: a sonnet"] for name in names}, ["Evidence: none"])
    with colm:
        strategies = [f"solo:{name}" for name in names]
        list(run(colm, plan(find("mt_bench"), published.mt_bench(tmp_path)), strategies, tmp_path / "run"))
    assert len(list((tmp_path / "run" / ANSWER_FILES).iterdir())) == len(names)


def test_a_team_without_a_server_runs_what_needs_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = published.gsm8k(tmp_path)
    (tmp_path / "team.toml").write_text(
        '[[clients]]\nname = "one"\nbackend = "scripted"\nmodel = "script"\nreplies = [{ text = "Answer: 1000" }]\n'
    )
    arguments = ["run", "gsm8k", "--data", data, "--team", tmp_path / "team.toml", "--out", tmp_path / "run"]
    monkeypatch.setattr("sys.argv", ["eval", *map(str, arguments), "--strategies", "solo:one"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert list(read_evaluation(tmp_path / "run").traces) == ["solo:one"]


def test_easy_vqa_is_read_from_its_package(tmp_path: Path) -> None:
    pytest.importorskip("easy_vqa", reason="easy-vqa is not installed: pip install easy-vqa")
    planned = plan(find("easy_vqa"), None)
    assert len(planned.items) == 9673
    first = planned.items[0]
    assert (first.question, first.gold, first.groups) == ("What is the red shape?", ("triangle",), {"answer": "shape"})
    ask("easy_vqa", None, tmp_path / "run", team("Triangle.", "yes"), limit=40)
    evaluation = read_evaluation(tmp_path / "run")
    gold = [item.gold[0] for item in evaluation.items.values()]
    for strategy, answer in (("vote", "triangle"), ("colm", "yes")):
        found = score(
            evaluation.benchmark,
            list(evaluation.items.values()),
            {trace.id: reply_of(trace) for trace in evaluation.traces[strategy]},
            Rule.STRICT,
        )
        assert found.overall.correct == gold.count(answer)
    with pytest.raises(InputError, match="reads the data in its package"):
        plan(find("easy_vqa"), tmp_path)
