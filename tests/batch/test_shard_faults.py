"""Shards over HTTP that are killed at random moments."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from colm_vl import merge_shards
from tests.batch.runs import read_lines, write_questions
from tests.batch.test_faults import CALLS, CONCURRENCY, IN_FLIGHT, _Counting, _write_team
from tests.endpoint import Endpoint

SHARDS = 16
QUESTIONS = int(os.environ.get("COLM_VL_SHARD_QUESTIONS", "100"))
KILLS = 10
AT_ONCE = 4

# Imports once and forks for each shard. A line is a command; what it writes is its process id, or that of one that
# ended and its status.
LAUNCHER = """
import os, select, signal, sys
from colm_vl import cli
from colm_vl.backends import _openai_client
ended, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
signal.signal(signal.SIGCHLD, lambda *_: None)
while True:
    ready = select.select([0, ended], [], [])[0]
    if ended in ready:
        os.read(ended, 100)
        while True:
            try:
                child, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not child:
                break
            print("ended", child, os.waitstatus_to_exitcode(status), flush=True)
    if 0 in ready:
        line = sys.stdin.readline()
        if not line:
            break
        child = os.fork()
        if child == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            sys.argv = ["colm-vl", *line.split()]
            try:
                cli.main()
                os._exit(0)
            except SystemExit as exit:
                os._exit(exit.code or 0)
        print("began", child, 0, flush=True)
"""


class _Scheduler:
    """Runs all shards, some at a time, and runs those again that did not end well, as a scheduler does."""

    def __init__(self, command: str) -> None:
        self._command = command
        self._waiting = list(range(1, SHARDS + 1))
        self.running: dict[int, int] = {}
        self._launcher = subprocess.Popen(
            [sys.executable, "-u", "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self) -> None:
        while self._step():
            pass

    def _step(self) -> bool:
        """Start what can be started and wait until a shard has begun or ended. False if all have ended."""
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        if self._waiting and len(self.running) < AT_ONCE:
            shard = self._waiting.pop(0)
            self._launcher.stdin.write(f"{self._command} --shard {shard}/{SHARDS}\n")
            self._launcher.stdin.flush()
        elif not self.running:
            return False
        else:
            shard = 0
        what, process, status = self._launcher.stdout.readline().split()
        while what == "ended":
            again = self.running.pop(int(process))
            if int(status):
                self._waiting.append(again)
            if not shard:
                return True
            what, process, status = self._launcher.stdout.readline().split()
        self.running[int(process)] = shard
        return True

    def close(self) -> None:
        assert self._launcher.stdin is not None
        assert self._launcher.stdout is not None
        self._launcher.stdin.close()
        self._launcher.wait(10)
        self._launcher.stdout.close()


def _journaled(out: Path) -> set[int]:
    """The numbers of the requests whose replies are in a journal."""
    texts = [line["text"] for path in out.rglob("calls.jsonl") for line in read_lines(path)]
    return {int(text.split("request ")[1].split(".")[0]) for text in texts}


def test_shards_killed_at_ten_moments_repeat_no_finished_call(tmp_path: Path) -> None:
    script, draw, out = _Counting(), random.Random(6), tmp_path / "out"
    moments = sorted(draw.sample(range(20, QUESTIONS * CALLS * 9 // 10), KILLS))
    killed = 0
    with Endpoint(script) as endpoint:
        team, questions = _write_team(tmp_path, endpoint.base_url), write_questions(tmp_path, QUESTIONS)
        command = f"batch {questions} --team {team} --concurrency {CONCURRENCY} --out {out}"
        with contextlib.closing(_Scheduler(command)) as scheduler, ThreadPoolExecutor(1) as threads:
            ended = threads.submit(scheduler.run)
            for moment in moments:
                assert script.wait_for(moment)
                time.sleep(draw.uniform(0, 0.02))
                with contextlib.suppress(ProcessLookupError, IndexError):  # it may have ended in this moment
                    os.kill(draw.choice(list(scheduler.running)), signal.SIGKILL)
                    killed += 1
            ended.result()
    assert killed >= KILLS - 2
    assert merge_shards(out).complete
    answers = read_lines(out / "answers.jsonl")
    assert [line["id"] for line in answers] == [f"q{number}" for number in range(QUESTIONS)]
    assert all(line["answer"] == "5" and not line["error"] for line in answers)
    keys = [line["key"] for line in read_lines(out / "calls.jsonl")]
    assert len(keys) == len(set(keys)) == QUESTIONS * CALLS
    # A call was not made again after its reply was in a journal.
    last = {content: number for number, content in enumerate(script.contents)}
    assert all(last[script.contents[number]] == number for number in _journaled(out))
    assert len(script.contents) <= QUESTIONS * CALLS + killed * IN_FLIGHT
