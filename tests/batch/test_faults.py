"""Batches over HTTP that are killed or interrupted, and batches with failing endpoints."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from colm_vl import CoLM, Team
from tests.batch.runs import write_questions
from tests.endpoint import Answer, Endpoint, Fault, Seen

KILLS = int(os.environ.get("COLM_VL_KILLS", "15"))
QUESTIONS = 10 * KILLS
CALLS = 5  # a question: two drafts, the guidance, two refinements
CLIENTS = ("near", "far")
CONCURRENCY = 12
IN_FLIGHT = CONCURRENCY * len(CLIENTS)  # at most

# Imports once and forks for each run, which is faster than starting interpreters. It has no threads, so forks are safe.
LAUNCHER = """
import os, sys
from colm_vl import cli
from colm_vl.backends import _openai_client
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(os.open(line.split()[-1] + ".log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        sys.argv = ["colm-vl", *line.split()]
        try:
            cli.main()
            os._exit(0)
        except SystemExit as exit:
            os._exit(exit.code or 0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def _content(seen: Seen) -> str:
    """The content of a request. Two requests of equal content are the same call made twice."""
    return json.dumps([seen.body["model"], seen.body["messages"]])


def _whole_lines(path: Path) -> list[dict[str, Any]]:
    """Every line is valid, except that the last one may be incomplete."""
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


# --- killing ---


class _Counting:
    """Answers with the number of the request, so that a journal line tells which request it is of, and calls
    `reached` at a given number of them."""

    def __init__(self) -> None:
        self.threshold = 0
        self.reached = threading.Event()
        self.contents: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, seen: Seen) -> Answer:
        with self._lock:
            self.contents.append(_content(seen))
            number = len(self.contents) - 1
            if number >= self.threshold:
                self.reached.set()
        return f"Caption: request {number}.\nAnswer: 5\nConfidence: 90"

    def wait_for(self, threshold: int, timeout: float = 60) -> bool:
        with self._lock:
            self.threshold = threshold
            self.reached.clear()
            if len(self.contents) > threshold:
                self.reached.set()
        return self.reached.wait(timeout)


class _Runs:
    """Runs a command repeatedly, in forks of a process that has imported everything."""

    def __init__(self, arguments: str) -> None:
        self._arguments = arguments
        self._launcher = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def begin(self) -> int:
        assert self._launcher.stdin is not None
        self._launcher.stdin.write(self._arguments + "\n")
        self._launcher.stdin.flush()
        return self._line()

    def end(self) -> int:
        """The exit status, negative for a signal."""
        return self._line()

    def close(self) -> None:
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.close()
        self._launcher.wait(10)
        self._launcher.stdout.close()

    def _line(self) -> int:
        assert self._launcher.stdout is not None
        return int(self._launcher.stdout.readline())


def _write_team(folder: Path, base_url: str) -> Path:
    def member(name: str) -> str:
        return f'name = "{name}"\nbackend = "openai"\nmodel = "{name}"\nbase_url = "{base_url}"\nmax_concurrency = 24\n'

    tables = [f"[[clients]]\n{member(name)}" for name in CLIENTS]
    path = folder / "team.toml"
    path.write_text("\n".join([*tables, f"[server]\n{member('server')}"]), "utf-8")
    return path


def _finished(out: Path) -> set[int]:
    """The numbers of the requests whose replies are in the journal."""
    texts = [line["text"] for line in _whole_lines(out / "calls.jsonl")]
    return {int(text.split("request ")[1].split(".")[0]) for text in texts}


def test_a_batch_killed_at_random_moments_repeats_no_finished_call(tmp_path: Path) -> None:
    """A call is finished once its line is in the journal. Calls that were running, or whose replies were not written,
    can be made again. There are at most as many as concurrent requests."""
    script, draw, out = _Counting(), random.Random(4), tmp_path / "out"
    thresholds = sorted(draw.sample(range(1, QUESTIONS * CALLS - 100), KILLS))
    finished: set[int] = set()
    with Endpoint(script) as endpoint, contextlib.closing(_arguments(tmp_path, endpoint, out)) as runs:
        for kill, threshold in enumerate(thresholds):
            before = len(script.contents)
            pid = runs.begin()
            if kill % 3:
                assert script.wait_for(threshold)
                time.sleep(draw.uniform(0, 0.01))
            else:  # at any moment, also at startup and while files are closed
                script.wait_for(threshold, draw.uniform(0, 0.4))
            os.kill(pid, signal.SIGKILL)
            assert runs.end() == -signal.SIGKILL
            repeated = {script.contents[number] for number in finished} & set(script.contents[before:])
            assert not repeated
            for name in ("traces.jsonl", "answers.jsonl"):
                lines = _whole_lines(out / name)
                assert len({line["id"] for line in lines}) == len(lines)
            now = _finished(out)
            assert finished <= now
            finished = now
        runs.begin()
        assert runs.end() == 0
    answers = _whole_lines(out / "answers.jsonl")
    assert [line["id"] for line in answers] == [f"q{number}" for number in range(QUESTIONS)]
    assert all(line["answer"] == "5" and not line["error"] for line in answers)
    assert [line["id"] for line in _whole_lines(out / "traces.jsonl")] == [line["id"] for line in answers]
    assert len(_finished(out)) == QUESTIONS * CALLS
    assert len(script.contents) <= QUESTIONS * CALLS + KILLS * IN_FLIGHT


def test_an_interrupted_or_terminated_batch_is_resumed(tmp_path: Path) -> None:
    """Ctrl-C lets calls under way finish, so that none is made twice; SIGTERM ends the process as a kill does."""
    script, draw, out, questions = _Counting(), random.Random(5), tmp_path / "out", 120
    thresholds = sorted(draw.sample(range(1, questions * CALLS // 2), 12))  # it must not end before the signal comes
    terminated = 0
    with Endpoint(script) as endpoint, contextlib.closing(_arguments(tmp_path, endpoint, out, questions)) as runs:
        for number, threshold in enumerate(thresholds):
            before = len(script.contents)
            pid = runs.begin()
            # After the fork, during which Python ignores exceptions. Requests of the previous run can still arrive.
            assert script.wait_for(max(threshold, before + IN_FLIGHT))
            kind = signal.SIGTERM if number % 2 else signal.SIGINT
            os.kill(pid, kind)
            assert runs.end() == (130 if kind == signal.SIGINT else -kind)
            terminated += kind == signal.SIGTERM
            if kind == signal.SIGINT:
                ids = [line["id"] for line in _whole_lines(out / "answers.jsonl")]
                assert ids == [line["id"] for line in _whole_lines(out / "traces.jsonl")]
                assert len(_finished(out)) >= len(script.contents) - terminated * IN_FLIGHT
        runs.begin()
        assert runs.end() == 0
    answers = _whole_lines(out / "answers.jsonl")
    assert [line["id"] for line in answers] == [f"q{number}" for number in range(questions)]
    assert all(line["answer"] == "5" for line in answers)
    assert len(script.contents) <= questions * CALLS + terminated * IN_FLIGHT


def _arguments(folder: Path, endpoint: Endpoint, out: Path, count: int = QUESTIONS) -> _Runs:
    team, questions = _write_team(folder, endpoint.base_url), write_questions(folder, count)
    return _Runs(f"batch {questions} --team {team} --concurrency {CONCURRENCY} --out {out}")


# --- failing ---

Kind = Literal["rate_limited", "server_error", "reset", "stall", "truncated", "empty", "html"]


class _Faulty:
    """Fails a fifth of the calls, some of them permanently. The request and the member decide which ones."""

    def __init__(self) -> None:
        self.lost: Counter[tuple[int, str, str]] = Counter()
        self.failed: Counter[Kind] = Counter()
        self._lock = threading.Lock()
        self._attempts: Counter[tuple[int, str, str]] = Counter()

    def __call__(self, seen: Seen) -> Answer:
        model = seen.body["model"]
        number = int(re.findall(r"in number (\d+)\?", seen.text)[-1])
        refining = any(message["role"] == "assistant" for message in seen.body["messages"])
        call = (number, model, "guide" if model == "server" else "refine" if refining else "draft")
        draw = random.Random(f"1 {call}")
        kind: Kind = draw.choice(get_args(Kind))
        faulty = draw.random() < 0.2
        for_good = kind == "stall" or draw.random() < 0.6  # a stall lasts as long as the stage's time-out
        with self._lock:
            self._attempts[call] += 1
            if faulty and (for_good or self._attempts[call] == 1):
                self.failed[kind] += 1
                self.lost[call] += for_good
                return Fault(kind, retry_after="0.02")
        return "Caption: dots.\nAnswer: 5\nConfidence: 90"


def test_each_fault_ends_in_an_answer_or_a_recorded_failure(tmp_path: Path) -> None:
    script = _Faulty()
    with Endpoint(script) as endpoint:
        member = {"backend": "openai", "base_url": endpoint.base_url, "max_retries": 2, "retry_delay": 0.01}
        member |= {"max_concurrency": 24}
        team = {
            "clients": [{"name": name, "model": name, **member} for name in CLIENTS],
            "server": {"model": "server", **member},
            "policy": {"prompts": "pocket", "timeouts": dict.fromkeys(("draft", "guide", "refine"), 4)},
        }
        with CoLM(Team.from_dict(team)) as colm:
            traces = list(colm.batch(write_questions(tmp_path, 100), tmp_path / "out", concurrency=24))
    assert [trace.id for trace in traces] == [f"q{number}" for number in range(100)]
    assert set(script.failed) == set(get_args(Kind))
    for number, trace in enumerate(traces):
        lost = {(member, stage) for lost_of, member, stage in _lost(script) if lost_of == number}
        assert {(failure.member, failure.stage) for failure in trace.failures} == lost
        assert trace.degraded == bool(lost)
        assert bool(trace.answer) == (not lost >= {(name, "draft") for name in CLIENTS})
        assert all(draft.text for draft in trace.drafts)
    lines = _whole_lines(tmp_path / "out" / "answers.jsonl")
    assert [bool(line["error"]) for line in lines] == [not trace.answer for trace in traces]
    assert any(trace.fallback == "concat" for trace in traces)
    assert any(not trace.answer for trace in traces)


def _lost(script: _Faulty) -> Iterator[tuple[int, str, str]]:
    return (call for call, times in script.lost.items() if times)
