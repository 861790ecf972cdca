"""Shards of a batch: which questions they have, that nothing is asked twice, and that merging loses nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from colm_vl import CoLM, ConfigError, InputError, Query, merge_shards
from colm_vl.backends import scripted
from colm_vl.batch import answered_in
from colm_vl.batch.questions import Questions, Row
from colm_vl.batch.shards import Shard
from tests.batch.runs import calls_made, near_and_far, read_lines, write_questions
from tests.teams import FIVE, GUIDANCE
from tests.teams import scripted as team_of

ROWS = some.lists(some.text("abc", min_size=1, max_size=4), max_size=30)


def answer(colm: CoLM, source: object, out: Path, shard: str | None = None) -> list[str]:
    return [trace.id for trace in colm.batch(source, out, shard=shard, concurrency=4)]


def run_shards(questions: Path, out: Path, count: int, *, but: tuple[int, ...] = ()) -> dict[str, int]:
    """Runs the shards one after the other. Returns the calls made by each member."""
    with near_and_far() as colm:
        for index in range(1, count + 1):
            if index not in but:
                answer(colm, questions, out, f"{index}/{count}")
        return calls_made(colm)


def slow_team(folder: Path) -> Path:
    team = folder / "slow.toml"
    member = 'backend = "scripted"\nmodel = "m"\nreplies = [{ text = "Answer: 5", delay = 60 }]'
    team.write_text(f'[[clients]]\nname = "near"\n{member}\n[policy]\nstrategy = "vote"\n', "utf-8")
    return team


@contextmanager
def running(questions: Path, out: Path, shard: str | None) -> Iterator[None]:
    """A run in another process that has begun and does not end."""
    team = slow_team(out.parent)
    command = [sys.executable, "-m", "colm_vl.cli", "batch", str(questions), "--team", str(team), "--out", str(out)]
    process = subprocess.Popen([*command, *(["--shard", shard] if shard else [])], stderr=subprocess.DEVNULL)
    folder = out / Shard.read(shard).folder if shard else out
    try:
        while not (folder / "answers.jsonl").exists():
            assert process.poll() is None
        yield
    finally:
        process.kill()
        process.wait()


# --- which questions a shard has ---


@pytest.mark.parametrize("text", ["", "3", "0/4", "5/4", "a/b", "1/0", "-1/4", "1/9999999"])
def test_an_impossible_shard_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"expected INDEX/COUNT|there is no shard"):
        Shard.read(text)


@given(rows=ROWS, count=some.integers(1, 7), extra=some.text("abc", min_size=1, max_size=4), at=some.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_each_question_is_in_one_shard_wherever_it_stands(rows: list[str], count: int, extra: str, at: int) -> None:
    def shards(texts: list[str]) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for index in range(1, count + 1):
            for row in Questions([Query(text) for text in texts], shard=Shard(index, count)):
                found.setdefault(row.question, set()).add(index)
        return found

    before = shards(rows)
    assert before.keys() == set(rows)
    assert all(len(indexes) == 1 for indexes in before.values())  # equal questions are together
    after = shards([*rows[:at], extra, *rows[at:]])
    assert all(after[text] == before[text] for text in rows)


def test_pictures_and_choices_count_and_ids_do_not() -> None:
    count = 1000

    def place(row: Row) -> int:
        return next(index for index in range(1, count + 1) if Shard(index, count).holds(row, Path("data")))

    first = Row("1", "line 1", "What is it?", pictures=("data/a.png",))
    assert place(first) == place(Row("2", "line 9", "What is it?", pictures=("data/a.png",), metadata={"x": 1}))
    others = [
        Row("1", "line 1", "What is it?", pictures=("data/b.png",)),
        Row("1", "line 1", "What is it?", pictures=(b"bytes",)),
        Row("1", "line 1", "What is it?", ("cat", "dog"), pictures=("data/a.png",)),
    ]
    assert len({place(row) for row in (first, *others)}) == 4


def test_shards_agree_if_the_file_is_elsewhere_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        PIL.Image.new("RGB", (8, 8)).save(folder / "a.png")
        rows = ({"question": f"What is {number}?", "image": "./a.png"} for number in range(40))
        (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    monkeypatch.chdir(tmp_path / "here")
    here = [row.id for row in Questions("q.jsonl", shard=Shard(1, 3))]
    assert here == [row.id for row in Questions(tmp_path / "there" / "q.jsonl", shard=Shard(1, 3))]
    assert 0 < len(here) < 40


def test_the_limit_counts_the_questions_of_all_shards(tmp_path: Path) -> None:
    questions = write_questions(tmp_path, 40)
    found = [row.id for index in (1, 2) for row in Questions(questions, limit=30, shard=Shard(index, 2))]
    assert sorted(found) == sorted(f"q{number}" for number in range(30))


# --- running and merging ---


def test_merged_shards_are_like_one_run_and_ask_nothing_twice(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 40), tmp_path / "shards"
    with near_and_far() as colm:
        answer(colm, questions, tmp_path / "whole")
        whole = calls_made(colm)
    assert run_shards(questions, out, 4) == whole
    assert answered_in(out) == 40  # before they are merged, too
    merged = merge_shards(out)
    assert merged.complete
    assert (merged.answered, merged.failed, merged.missing, merged.unfinished) == (40, 0, 0, [])
    assert (out / "answers.jsonl").read_bytes() == (tmp_path / "whole" / "answers.jsonl").read_bytes()
    ids = [line["id"] for line in read_lines(out / "traces.jsonl")]
    assert ids == [f"q{number}" for number in range(40)]
    assert len(read_lines(out / "calls.jsonl")) == sum(whole.values())
    before = {path.name: path.read_bytes() for path in out.glob("*.json*")}
    assert merge_shards(out) == merged
    assert {path.name: path.read_bytes() for path in out.glob("*.json*")} == before


def test_another_number_of_shards_uses_what_was_paid(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 40), tmp_path / "out"
    first = run_shards(questions, out, 4, but=(3,))
    second = run_shards(questions, out, 2)
    with near_and_far() as colm:
        assert answer(colm, questions, out) == [f"q{number}" for number in range(40)]
        assert sum(calls_made(colm).values()) == 0
    assert sum(first.values()) + sum(second.values()) == 40 * 5
    assert [line["id"] for line in read_lines(out / "answers.jsonl")] == [f"q{number}" for number in range(40)]
    assert not list(out.glob("shards/*/*.jsonl"))


def test_calls_of_other_shards_are_used_if_another_strategy_needs_them(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 20), tmp_path / "out"
    run_shards(questions, out, 3)
    with near_and_far() as colm:
        list(colm.batch(questions, out, strategy="vote,colm", shard="1/1"))
        assert sum(calls_made(colm).values()) == 0


def test_folders_of_machines_that_share_none_are_merged(tmp_path: Path) -> None:
    questions = write_questions(tmp_path, 30)
    with near_and_far() as colm:
        for index in (1, 2, 3):
            answer(colm, questions, tmp_path / f"machine{index}", f"{index}/3")
    partly = merge_shards(tmp_path / "machine1", tmp_path / "machine3")
    assert partly.unfinished == ["2/3"]
    assert partly.missing == 30 - partly.answered > 0
    assert not partly.complete
    assert merge_shards(tmp_path / "machine1", tmp_path / "machine2").complete
    ids = [line["id"] for line in read_lines(tmp_path / "machine1" / "answers.jsonl")]
    assert ids == [f"q{number}" for number in range(30)]
    assert list((tmp_path / "machine2").glob("shards/*/calls.jsonl"))  # other folders are left alone


def test_failed_questions_are_told_and_asked_again(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 10), tmp_path / "out"
    broken = team_of({"near": [scripted.Reply(error="unreachable", text="gone")]}, strategy="vote")
    with broken as colm:
        for index in (1, 2):
            list(colm.batch(questions, out, shard=f"{index}/2"))
    merged = merge_shards(out)
    assert (merged.answered, merged.failed, merged.missing, merged.complete) == (0, 10, 0, False)
    with team_of({"near": [FIVE]}, strategy="vote") as colm:
        assert all(trace.answer == "5" for trace in colm.batch(questions, out, shard="1/1"))
    assert merge_shards(out).complete


def test_an_incomplete_line_of_another_shard_is_left_alone(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 20), tmp_path / "out"
    run_shards(questions, out, 2, but=(2,))
    (folder,) = out.glob("shards/*")
    for name in ("calls.jsonl", "traces.jsonl"):
        with (folder / name).open("ab") as file:
            file.write(b'{"key":"half')
    before = (folder / "calls.jsonl").read_bytes()
    run_shards(questions, out, 2, but=(1,))
    assert (folder / "calls.jsonl").read_bytes() == before
    assert merge_shards(out).complete


# --- what is refused ---


def test_a_running_shard_bars_merges_whole_runs_and_other_numbers(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 40), tmp_path / "out"
    with running(questions, out, "2/4"), CoLM.from_team(slow_team(tmp_path)) as colm:
        with pytest.raises(InputError, match=r"shard 2/4 of .*out is running"):
            merge_shards(out)
        with pytest.raises(InputError, match=r"shard 2/4 of .*out is running"):
            answer(colm, questions, out)
        with pytest.raises(InputError, match=r"shard 2/4 of .*out is running"):
            answer(colm, questions, out, "1/3")
        with pytest.raises(InputError, match="another run is using"):
            answer(colm, questions, out, "2/4")
        assert answer(colm, write_questions(tmp_path, 0), out, "1/4") == []  # other shards of four can run
        changed = CoLM.from_team(slow_team(tmp_path), prompts="pocket")
        with changed, pytest.raises(InputError, match=r"shard 2/4 of .* is running with other settings: the prompts"):
            answer(changed, questions, out, "1/4")


def test_a_whole_run_bars_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("colm_vl.batch.folder._PATIENCE", 0.2)
    questions, out = write_questions(tmp_path, 5), tmp_path / "out"
    with (
        running(questions, out, None),
        near_and_far() as colm,
        pytest.raises(InputError, match="another run is using"),
    ):
        answer(colm, questions, out, "1/2")


def test_shards_with_other_settings_are_refused(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 10), tmp_path / "out"
    run_shards(questions, out, 2, but=(2,))
    with near_and_far(rounds=2) as colm, pytest.raises(InputError, match=r"made with other settings: policy\.rounds"):
        answer(colm, questions, out, "2/2")
    with near_and_far(rounds=2) as colm:
        answer(colm, questions, tmp_path / "other", "2/2")
    with pytest.raises(InputError, match=r"other was made with other settings than .*out: policy\.rounds: 1 → 2"):
        merge_shards(out, tmp_path / "other")
    with pytest.raises(InputError, match="no run in this folder"):
        merge_shards(tmp_path / "nothing")
    with near_and_far() as colm, pytest.raises(ConfigError, match="a shard cannot start over"):
        colm.batch(questions, out, shard="1/2", fresh=True)


def test_a_changed_server_moves_the_answers_of_all_shards_aside_and_keeps_their_drafts(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 20), tmp_path / "out"
    run_shards(questions, out, 2)
    clients = {"near": [FIVE], "far": ["Answer: 4\nConfidence: 20"]}
    with team_of(clients, [GUIDANCE], prompts="pocket") as colm:
        asked = answer(colm, questions, out, "1/2")
        made = calls_made(colm)
    assert asked
    assert made["server"] == len(asked)
    assert len(list(tmp_path.glob("out.1/shards/*/traces.jsonl"))) == 2


def test_a_merge_that_is_interrupted_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions, out = write_questions(tmp_path, 30), tmp_path / "out"
    calls = sum(run_shards(questions, out, 3).values())
    for step in range(1, 8):
        shutil.copytree(out, tmp_path / "try")
        unlinked = 0

        def unlink(path: Path, missing_ok: bool = False, *, step: int = step) -> None:
            nonlocal unlinked
            unlinked += 1
            if unlinked == step:
                raise KeyboardInterrupt
            if path.exists():
                path.rename(path.with_suffix(".gone"))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", unlink)
            with pytest.raises(KeyboardInterrupt):
                merge_shards(tmp_path / "try")
        assert merge_shards(tmp_path / "try").complete
        assert len(read_lines(tmp_path / "try" / "calls.jsonl")) == calls
        shutil.rmtree(tmp_path / "try")


def test_the_commands(tmp_path: Path) -> None:
    questions, out = write_questions(tmp_path, 12), tmp_path / "out"
    team = tmp_path / "team.toml"
    member = 'backend = "scripted"\nmodel = "m"\nreplies = ["Answer: 5"]'
    team.write_text(f'[[clients]]\nname = "near"\n{member}\n[policy]\nstrategy = "vote"\n', "utf-8")

    def colm_vl(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "colm_vl.cli", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    planned = colm_vl("batch", questions, "--team", team, "--shard", "1/2", "--dry-run")
    assert " questions; strategies: vote" in planned.stdout
    assert colm_vl("batch", questions, "--team", team, "--out", out, "--shard", "1/2").returncode == 0
    partly = colm_vl("batch", "merge", out)
    assert partly.returncode == 1
    assert "not finished: shards 2/2; run them again, then merge again" in partly.stdout
    done = colm_vl("batch", questions, "--team", team, "--out", out, "--shard", "2/2")
    assert f"answers of shard 2/2: join them with `colm-vl batch merge {out}`" in done.stdout
    merged = colm_vl("batch", "merge", out)
    assert merged.returncode == 0
    assert f"12 answered, 0 failed: {out / 'answers.jsonl'}" in merged.stdout
    assert "expected INDEX/COUNT" in colm_vl("batch", questions, "--out", out, "--shard", "x").stderr
    assert "Usage" in colm_vl("batch", "merge", "--help").stdout
