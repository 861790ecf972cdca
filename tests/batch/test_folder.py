"""The folder of a batch: locking, and what happens if it is removed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from colm_vl import CoLM, ColmError, InputError, Team, prompts
from colm_vl.backends import scripted
from colm_vl.backends.base import Request
from colm_vl.batch.stats import BatchStats
from colm_vl.prompts import LABELLED_LINES
from tests.batch.runs import calls_made, near_and_far, read_lines, write_questions
from tests.teams import FIVE
from tests.teams import scripted as team_of

fcntl = pytest.importorskip("fcntl", reason="file systems without locks are simulated with flock")


def _remove(folder: Path) -> None:
    shutil.rmtree(folder)


def _move(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def _replace(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    for name in ("calls.jsonl", "traces.jsonl", "answers.jsonl"):
        (folder / name).touch()


@pytest.mark.parametrize("take", [_remove, _move, _replace])
@pytest.mark.parametrize("count", [3, 400])
def test_a_removed_folder_ends_the_batch_with_one_line(
    tmp_path: Path, take: Callable[[Path], None], count: int
) -> None:
    out = tmp_path / "out"

    def taking(request: Request) -> scripted.Reply:
        if "number 2?" in request.messages[-1].text:
            take(out)
        return scripted.Reply(text=FIVE, delay=0.02)

    with team_of({"near": taking}, strategy="solo") as colm:
        with pytest.raises(ColmError, match=r"calls\.jsonl: was removed or replaced while the run was using"):
            list(colm.batch(write_questions(tmp_path, count), out, concurrency=2))
        assert len(colm.requests("near")) < 250  # detected within about a second


def test_no_file_is_replaced_while_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses that."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files are listed in /proc")
    replace, replaced = Path.replace, list[str]()

    def strict(new: Path, target: Path) -> Path:
        for descriptor in descriptors.iterdir():
            if descriptor.exists() and target.exists() and descriptor.samefile(target):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(target))
        replaced.append(target.name)
        return replace(new, target)

    monkeypatch.setattr(Path, "replace", strict)
    questions, out = write_questions(tmp_path, 2), tmp_path / "out"
    with team_of({"near": [FIVE]}, strategy="solo") as colm:
        list(colm.batch(questions, out))
        questions.write_text("".join(reversed(questions.read_text("utf-8").splitlines(True))), "utf-8")
        list(colm.batch(questions, out))
    assert [line["id"] for line in read_lines(out / "answers.jsonl")] == ["q1", "q0"]
    assert {"answers.jsonl", "traces.jsonl"} <= set(replaced)


@pytest.fixture(params=["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def without_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        number = getattr(errno, request.param)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)


HOLD = """
import errno, fcntl, os, sys
def flock(*_):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
from pathlib import Path
from colm_vl.batch.locking import locked
with locked(Path(sys.argv[1])):
    sys.stdout.write("open"); sys.stdout.flush(); sys.stdin.read()
"""


@pytest.mark.usefixtures("without_locks")
def test_a_file_system_without_locks_runs_one_batch_at_a_time(tmp_path: Path) -> None:
    path, out = write_questions(tmp_path, 2), tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.read(4) == b"open"
        with near_and_far() as colm:
            with pytest.raises(InputError, match=rf"another run \(process {other.pid} on .*\) is using") as refused:
                list(colm.batch(path, out))
            assert not any(calls_made(colm).values())
        assert "run.pid" in refused.value.hint
        other.kill()
        other.wait()
    for made in (5, 0):  # locks of killed and of finished runs are ignored
        stats = BatchStats()
        with near_and_far() as colm:
            assert all(trace.answer for trace in colm.batch(path, out, stats=stats))
        assert stats.calls == 2 * made
    assert not (out / "run.pid").exists()


def test_other_locking_errors_are_not_reported_as_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with near_and_far() as colm, pytest.raises(InputError, match=r"cannot be used \(Input/output error\)"):
        list(colm.batch(write_questions(tmp_path, 1), tmp_path / "out"))


@pytest.mark.parametrize("policy", [{"strategy": "solo"}, {"strategy": "vote", "settle": "asker"}])
def test_another_order_of_clients_is_refused(tmp_path: Path, policy: dict[str, str]) -> None:
    clients = [
        {"name": name, "backend": "scripted", "model": "m", "replies": [f"Answer: {name}"]} for name in ("near", "far")
    ]
    path, out = write_questions(tmp_path, 1), tmp_path / "out"
    for order in (clients, clients):
        with CoLM(Team.from_dict({"clients": order, "policy": policy})) as colm:
            list(colm.batch(path, out))
    reordered = CoLM(Team.from_dict({"clients": clients[::-1], "policy": policy}))
    with reordered, pytest.raises(InputError, match="order of clients: near, far → far, near"):
        list(reordered.batch(path, out))


def test_a_changed_prompt_repeats_only_the_calls_with_it(tmp_path: Path) -> None:
    path, out = write_questions(tmp_path, 3), tmp_path / "out"
    profile = tmp_path / "own.toml"
    shutil.copy(Path(prompts.__file__).parent / "profiles" / "default.toml", profile)
    with near_and_far() as colm:
        list(colm.batch(path, out, strategy="vote,colm"))
    assert json.loads((out / "run.json").read_text())["prompts"]["near"].startswith("default ")
    stats = BatchStats()
    with near_and_far(prompts=str(profile)) as colm:  # another name for the same sentences
        list(colm.batch(path, out, strategy="vote,colm", stats=stats))
    assert (stats.calls, stats.kept) == (0, 6)
    told = LABELLED_LINES.profile.texts.guide_system
    profile.write_text(profile.read_text("utf-8").replace(told, f"{told} Be brief."), "utf-8")
    for guided in (3, 0):
        stats = BatchStats()
        with near_and_far(prompts=str(profile)) as colm:
            list(colm.batch(path, out, strategy="vote,colm", stats=stats))
            assert calls_made(colm) == {"near": 0, "far": 0, "server": guided}
        assert stats.failed == 0
    assert len(read_lines(out / "answers.jsonl")) == 6
    assert len(read_lines(tmp_path / "out.1" / "answers.jsonl")) == 6
