"""Batches: order, resuming, sharing, stopping."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from colm_vl import BadReply, CoLM, ColmError, ConfigError, InputError, Query, Team, Trace
from colm_vl.backend_pool import BackendPool
from colm_vl.backends import scripted
from colm_vl.backends.base import Request
from colm_vl.batch import Questions, runner
from colm_vl.batch.stats import BatchStats
from colm_vl.run import Run
from colm_vl.stages import draft, settle_by_vote
from colm_vl.strategies import Choice, Strategy
from tests.batch.runs import calls_made, near_and_far, read_lines, wording, write_questions
from tests.teams import FIVE, GUIDANCE
from tests.teams import scripted as team_of


def test_traces_come_in_the_order_of_the_questions(tmp_path: Path) -> None:
    def slow_at_first(request: Request) -> scripted.Reply:
        number = int(re.findall(r"in number (\d+)\?", request.messages[-1].text)[-1])
        return scripted.Reply(text=FIVE, delay=0.03 if number % 7 == 0 else 0.001)

    with team_of({"near": slow_at_first}, strategy="vote") as colm:
        traces = list(colm.batch(write_questions(tmp_path, 60), tmp_path / "out", strategy="vote", concurrency=5))
    assert [trace.id for trace in traces] == [f"q{number}" for number in range(60)]
    for name in ("traces.jsonl", "answers.jsonl"):
        assert [line["id"] for line in read_lines(tmp_path / "out" / name)] == [trace.id for trace in traces]


def test_answers_contain_the_answer_of_each_client(tmp_path: Path) -> None:
    with near_and_far() as colm:
        list(colm.batch(write_questions(tmp_path, 1), tmp_path / "out"))
    (line,) = read_lines(tmp_path / "out" / "answers.jsonl")
    assert line["clients"] == {"near": "5", "far": "4"}
    assert (line["id"], line["answer"], line["error"]) == ("q0", "5", None)


def test_answers_of_clients_are_the_final_ones_of_the_trace(tmp_path: Path) -> None:
    """An unreadable refinement or sample does not replace an earlier answer."""
    unreadable = "Caption: hm\nConfidence: 30"
    scripts = {"near": [FIVE, unreadable, FIVE, unreadable], "far": [FIVE]}
    with team_of(scripts, [GUIDANCE], samples=2) as colm:
        traces = list(colm.batch(write_questions(tmp_path, 1), tmp_path / "out", strategy="colm,self_consistency"))
    assert traces[0].refinements[0].text == traces[1].drafts[1].text == unreadable
    for trace, line in zip(traces, read_lines(tmp_path / "out" / "answers.jsonl"), strict=True):
        assert line["clients"] == {client: reply.answer for client, reply in trace.final.items()}
        assert all(line["clients"].values())


def test_a_finished_run_is_read_back_without_a_call(tmp_path: Path) -> None:
    path = write_questions(tmp_path, 20, level="hard")
    with near_and_far() as colm:
        first = list(colm.batch(path, tmp_path / "out"))
    with near_and_far() as colm:
        again = list(colm.batch(path, tmp_path / "out"))
        assert not any(calls_made(colm).values())
    assert again == first
    assert again[0].metadata == {"level": "hard"}


def test_finished_answers_get_the_current_metadata(tmp_path: Path) -> None:
    for level in ("hard", "easy"):
        path, stats = write_questions(tmp_path, 3, level=level), BatchStats()
        with near_and_far() as colm:
            traces = list(colm.batch(path, tmp_path / "out", stats=stats))
        assert all(trace.metadata == {"level": level} for trace in traces)
        assert [line["metadata"] for line in read_lines(tmp_path / "out" / "traces.jsonl")] == [{"level": level}] * 3
    assert (stats.kept, stats.calls) == (3, 0)


def test_changed_choices_are_asked_again(tmp_path: Path) -> None:
    for choices in (["5", "4"], ["4", "5"]):
        path, stats = write_questions(tmp_path, 2, choices=choices), BatchStats()
        with near_and_far() as colm:
            list(colm.batch(path, tmp_path / "out", strategy="vote", stats=stats))
        assert (stats.kept, stats.stage("draft").made) == (0, 4)


def test_calls_shared_by_strategies_are_made_once(tmp_path: Path) -> None:
    stats = BatchStats()
    with near_and_far() as colm:
        plan = colm.plan(write_questions(tmp_path, 10), strategy="solo,vote,concat,verdict,colm")
        assert not any(calls_made(colm).values())
        found = list(
            colm.batch(
                write_questions(tmp_path, 10), tmp_path / "out", strategy="solo,vote,concat,verdict,colm", stats=stats
            )
        )
        # Two drafts, two refinements from the peers, the verdict, the guidance, two refinements from it.
        assert calls_made(colm) == {"near": 30, "far": 30, "server": 20}
    assert plan.total == stats.calls == 80
    assert stats.avoided == 0
    assert {stage: plan.of_stage(stage) for stage in stats.stages} == {
        stage: count.over for stage, count in stats.stages.items()
    }
    assert [(trace.id, trace.strategy) for trace in found[:6]] == [
        ("q0", "solo"),
        ("q0", "vote"),
        ("q0", "concat"),
        ("q0", "verdict"),
        ("q0", "colm"),
        ("q1", "solo"),
    ]
    assert stats.answered == stats.total == 50


def test_a_strategy_added_later_finds_the_drafts(tmp_path: Path) -> None:
    path = write_questions(tmp_path, 10)
    with near_and_far() as colm:
        list(colm.batch(path, tmp_path / "out", strategy="vote"))
    with near_and_far() as colm:
        list(colm.batch(path, tmp_path / "out", strategy="vote,colm"))
        assert calls_made(colm) == {"near": 10, "far": 10, "server": 10}
    assert len(read_lines(tmp_path / "out" / "answers.jsonl")) == 20


def test_a_changed_server_finds_the_drafts(tmp_path: Path) -> None:
    data = {
        "clients": [{"name": "near", "backend": "scripted", "model": "m", "replies": [FIVE]}],
        "server": {"backend": "scripted", "model": "m", "replies": [GUIDANCE]},
    }
    for replies, drafted in (([GUIDANCE], 0), (["Evidence: seven"], 5)):
        data["server"] = {"backend": "scripted", "model": "m", "replies": replies}
        stats = BatchStats()
        with CoLM(Team.from_dict(data)) as colm:
            list(colm.batch(write_questions(tmp_path, 5), tmp_path / "out", stats=stats))
        assert stats.stage("draft").avoided == drafted
        assert stats.stage("guide").made == stats.stage("refine").made == 5


def test_failed_questions_are_counted_and_tried_again(tmp_path: Path) -> None:
    path = write_questions(tmp_path, 6)
    gone = {"when": "number 3?", "error": "unreachable"}
    stats = BatchStats()
    with team_of({"near": [gone, FIVE]}, [GUIDANCE]) as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="vote,colm", stats=stats))
        assert len(colm.requests("near")) == 6 + 5  # the second strategy does not wait for the same failure again
    assert [trace.id for trace in traces if not trace.answer] == ["q3", "q3"]
    assert (stats.total, stats.answered, stats.failed) == (12, 10, 2)
    assert [line["error"] is None for line in read_lines(tmp_path / "out" / "answers.jsonl")].count(False) == 2
    stats = BatchStats()
    with team_of({"near": [FIVE]}, [GUIDANCE]) as colm:
        list(colm.batch(path, tmp_path / "out", strategy="vote,colm", stats=stats))
        assert len(colm.requests("near")) == 2
    assert (stats.total, stats.kept, stats.answered, stats.failed) == (12, 10, 2, 0)
    assert [line["id"] for line in read_lines(tmp_path / "out" / "answers.jsonl")][6:8] == ["q3", "q3"]


def test_bad_rows_are_recorded_failures_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    good = json.dumps({"question": "Good?"})
    path.write_text(f'{good}\n{{bad\n{{"id": "x"}}\n{{"question": "Seen?", "image": "gone.png"}}\n{good}\n')
    with near_and_far() as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="vote"))
    assert [bool(trace.answer) for trace in traces] == [True, False, False, False, True]
    errors = [line["error"] for line in read_lines(tmp_path / "out" / "answers.jsonl")][1:4]
    assert errors[0].startswith("q.jsonl, line 2: is not valid JSON")
    assert errors[1].startswith("q.jsonl, line 3: the question is missing")
    assert errors[2].startswith("q.jsonl, line 4: the picture ")
    path.write_text(f'{good}\n{{"question": "Mended?"}}\n{{"id": "x", "question": "Q?"}}\n')
    with near_and_far() as colm:
        assert all(trace.answer for trace in colm.batch(path, tmp_path / "out", strategy="vote"))
    assert [line["id"] for line in read_lines(tmp_path / "out" / "answers.jsonl")] == ["1", "2", "x", "5"]


def test_unusual_metadata_do_not_fail_other_questions(tmp_path: Path) -> None:
    given = [{}, {"bytes": b"\xff", "object": object()}, {(1, 2): 3}]
    questions = [Query(wording(number), metadata=metadata) for number, metadata in enumerate(given)]
    with near_and_far() as colm:
        traces = list(colm.batch(questions, tmp_path / "out", strategy="vote"))
    assert [bool(trace.answer) for trace in traces] == [True, True, False]
    assert traces[1].metadata["bytes"] == "1 bytes"
    error = read_lines(tmp_path / "out" / "answers.jsonl")[2]["error"]
    assert error.startswith("question 3: the metadata cannot be written: keys must be")


def test_an_id_used_twice_is_refused_before_any_call(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "a", "question": "1?"}\n{"id": "a", "question": "2?"}\n')
    with near_and_far() as colm:
        with pytest.raises(InputError, match="used before"):
            list(colm.batch(path, tmp_path / "out"))
        assert not any(calls_made(colm).values())


def test_wrong_arguments_are_refused_at_once(tmp_path: Path) -> None:
    path = write_questions(tmp_path, 1)
    with near_and_far() as colm:
        for arguments in ({"strategy": "solo,nonsense"}, {"concurrency": 0}, {"rounds": 99}, {"strategy": []}):
            with pytest.raises(ConfigError):
                colm.batch(path, tmp_path / "out", **arguments)  # type: ignore[arg-type]
        with pytest.raises(InputError):
            colm.batch(tmp_path / "gone.jsonl", tmp_path / "out")


async def test_a_batch_can_be_followed_in_a_running_loop_and_without_a_folder(dots: Query) -> None:
    async with near_and_far() as colm:
        traces = [trace async for trace in colm.batch([dots, Query("And here?", id="b")], strategy="vote")]
    assert [(trace.id, trace.answer) for trace in traces] == [("1", "5"), ("b", "5")]


def test_a_slow_reader_slows_the_batch_down(tmp_path: Path) -> None:
    with near_and_far() as colm:
        traces = iter(colm.batch(write_questions(tmp_path, 200), tmp_path / "out", strategy="solo", concurrency=2))
        next(traces)
        time.sleep(0.2)  # nothing to await: what is tested is that nothing happens
        assert len(colm.requests("near")) <= 12
        traces.close()  # type: ignore[attr-defined]


def test_leaving_early_keeps_the_running_calls(tmp_path: Path) -> None:
    path = write_questions(tmp_path, 50)
    with team_of({"near": [{"text": FIVE, "delay": 0.02}], "far": [FIVE]}, [GUIDANCE]) as colm:
        for _ in colm.batch(path, tmp_path / "out", strategy="solo", concurrency=8):
            break
        made = len(colm.requests("near"))
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) == made
    with near_and_far() as colm:
        list(colm.batch(path, tmp_path / "out", strategy="solo"))
        assert len(colm.requests("near")) == 50 - made


def test_files_are_closed_after_a_slow_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping, errors, fsync = threading.Event(), list[OSError](), os.fsync

    def slow(file: int) -> None:
        if threading.current_thread().name.startswith("asyncio"):  # a sync while the batch runs
            keeping.set()
            time.sleep(0.2)  # as a slow disk does
            keeping.clear()
        try:
            fsync(file)
        except OSError as error:
            errors.append(error)
            raise

    monkeypatch.setattr(runner, "SYNC_SECONDS", 0.01)
    with team_of({"near": [{"text": FIVE, "delay": 0.02}]}, strategy="solo") as colm:
        traces = iter(colm.batch(write_questions(tmp_path, 200), tmp_path / "out", concurrency=1))
        next(traces)
        monkeypatch.setattr(os, "fsync", slow)
        while not keeping.is_set():
            next(traces)
        traces.close()  # type: ignore[attr-defined]
    assert errors == []


def test_a_failing_sync_ends_the_batch_with_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken, fsync = threading.Event(), os.fsync

    def failing(file: int) -> None:
        if broken.is_set():
            raise OSError(errno.EIO, "Input/output error")
        fsync(file)

    def breaking(request: Request) -> scripted.Reply:
        broken.set()
        return scripted.Reply(text=FIVE, delay=0.02)

    monkeypatch.setattr(os, "fsync", failing)
    monkeypatch.setattr(runner, "SYNC_SECONDS", 0.01)
    with team_of({"near": breaking}, strategy="solo") as colm:
        with pytest.raises(ColmError, match=r"\.jsonl: cannot be written \(Input/output error\)") as raised:
            list(colm.batch(write_questions(tmp_path, 100), tmp_path / "out", concurrency=1))
        assert len(colm.requests("near")) < 100
    assert "resume" in raised.value.hint


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no Ctrl-C to a single process")
def test_ctrl_c_finishes_running_calls_and_tells_how_to_resume(tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    reply = '[{ text = "Answer: 5", delay = 0.2 }]'
    team.write_text(f'[[clients]]\nname = "near"\nbackend = "scripted"\nmodel = "m"\nreplies = {reply}\n')
    command = [sys.executable, "-m", "colm_vl.cli", "batch", str(write_questions(tmp_path, 400)), "--team", str(team)]
    command += ["--out", str(tmp_path / "out"), "--strategy", "solo", "--concurrency", "4"]
    calls = tmp_path / "out" / "calls.jsonl"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        while not calls.exists() or not calls.stat().st_size:
            assert run.poll() is None
            time.sleep(0.01)  # another process: there is nothing to await
        run.send_signal(signal.SIGINT)
        begun = time.monotonic()
        out, err = run.communicate(timeout=30)
    assert time.monotonic() - begun < 10
    assert run.returncode == 130
    assert "run the same command again" in err
    assert "of 400 answered" in out
    answered = len(read_lines(tmp_path / "out" / "answers.jsonl"))
    assert answered == len(read_lines(calls)) > 0


def test_all_strategies_run_side_by_side_and_as_planned(tmp_path: Path) -> None:
    names = "solo,solo:far,server,vote,self_consistency,concat,verdict,moa,colm"
    path, stats = write_questions(tmp_path, 4), BatchStats()
    with team_of({"near": [FIVE], "far": ["Answer: 4"]}, [GUIDANCE + "\nAnswer: 5"]) as colm:
        plan = colm.plan(path, strategy=names)
        traces = list(colm.batch(path, tmp_path / "out", strategy=names, stats=stats))
    assert [trace.strategy for trace in traces[:9]] == names.split(",")
    assert all(trace.answer for trace in traces)
    assert plan.total == stats.calls
    # Drafts: two, and five samples; peers' drafts are shown once for concat and moa; verdict of the server alone,
    # from the drafts and from the second layer; guidance; refinements.
    assert stats.calls == 4 * (2 + 5 + 2 + 3 + 1 + 2)


def test_a_plan_that_is_refused_leaves_the_iterator_alone() -> None:
    asked = iter([Query("How many?", id="a")])
    with near_and_far() as colm:
        with pytest.raises(InputError, match="can be read only once"):
            colm.plan(asked)
        assert [trace.id for trace in colm.batch(asked)] == ["a"]


@pytest.mark.parametrize("error", [InputError("not this one", hint="ask another"), BadReply("hm"), ValueError("x")])
def test_an_error_of_a_strategy_fails_its_question_only(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def run(run: Run) -> None:
        if "number 1?" in run.query.question:
            raise error
        settle_by_vote(run, list((await draft(run, run.team.clients)).values()))

    async def answered() -> list[Trace]:
        like = team_of({"near": [FIVE]}, strategy="vote")
        job = runner.Job(
            like.team,
            [Choice(Strategy(run, "of one's own"), like.team)],
            Questions([Query(wording(n)) for n in range(3)]),
        )
        return [trace async for trace in runner.traces(job, BackendPool(like.backends))]

    traces = asyncio.run(answered())
    assert [trace.answer for trace in traces] == ["5", "", "5"]
    (failure,) = traces[1].failures
    if isinstance(error, ColmError):
        assert (failure.kind, failure.message, failure.hint) == (error.kind, str(error), error.hint)
    else:
        assert (failure.kind, failure.message) == ("error", "unexpected ValueError")
        assert "ValueError: x" in caplog.text


def test_only_members_that_a_strategy_needs_must_be_connectable() -> None:
    local = {"backend": "scripted", "model": "m", "replies": [FIVE]}
    keyless = {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key_env": "NOT_SET_AT_ALL"}
    team = Team.from_dict({"clients": [{"name": "a", **local}, {"name": "b", **keyless}], "server": local})
    with CoLM(team) as colm:
        for strategy in ("server", "solo", "solo:a", "self_consistency"):
            assert [trace.answer for trace in colm.batch([Query("1?")], strategy=strategy)] == ["5"]
        for strategy in ("solo:b", "vote"):
            with pytest.raises(ConfigError, match="NOT_SET_AT_ALL"):
                list(colm.batch([Query("1?")], strategy=strategy))
        with pytest.raises(ConfigError, match="NOT_SET_AT_ALL"):
            list(colm.batch([Query("1?")], strategy="solo", asker="b"))
