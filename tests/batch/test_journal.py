"""The files of a batch, and how they are read again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from colm_vl import InputError, Member, Team
from colm_vl.backends.base import Generation, Message, Sampling, TokenLogprob
from colm_vl.batch.folder import Folder, Key
from colm_vl.batch.journal import Journal
from colm_vl.batch.lines import Lines, dump
from colm_vl.batch.questions import Row
from colm_vl.batch.settings import Settings
from colm_vl.store import CallKey, CallStore, Outcome
from colm_vl.types import Failure, Sent, Settlement, Timing, Trace, Usage

SCRIPTED = {"backend": "scripted", "model": "script", "replies": ["Answer: 5"]}


def _team(**server: object) -> Team:
    return Team.from_dict({"clients": [{"name": "near", **SCRIPTED}], "server": {**SCRIPTED, **server}})


def _key(text: str) -> CallKey:
    member: Member = _team().clients[0]
    return CallKey(member, "draft", 0, 0, (Message("user", (text,)),), Sampling())


async def _keep(store: CallStore, key: CallKey, outcome: Outcome) -> None:
    async with store.claim(key) as claim:
        await claim.settle(outcome)


async def _known(store: CallStore, key: CallKey) -> Outcome | None:
    async with store.claim(key) as claim:
        return claim.outcome


def _settings(team: Team | None = None, questions: str = "q.jsonl") -> Settings:
    return Settings.of(team or _team(), ["colm"], questions)


def _trace(id_: str, answer: str = "5") -> Trace:
    settlement = Settlement(answer) if answer else None
    failures = () if answer else (Failure("near", "draft", "timed_out", "no reply"),)
    return Trace(f"{id_}?", "colm", id_, settlement=settlement, failures=failures)


def _row(id_: str) -> Row:
    return Row(id_, "here", f"{id_}?")


def _ids(path: Path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text("utf-8").splitlines()]


async def test_a_generation_is_read_back_unchanged(tmp_path: Path) -> None:
    written = Generation(
        "Answer: fünf\n",
        "length",
        Usage(3, 2, 1),
        Sent(9, 1, 100),
        (TokenLogprob("fünf", -0.1), TokenLogprob("A", -0.2, {"A": -0.2, "B": -2.0})),
        1.5,
        2,
        plain=True,
        handle="kept",
        timing=Timing(0.25, None, 1.0),
    )
    journal = Journal(tmp_path / "calls.jsonl")
    await _keep(journal, _key("a"), written)
    await _keep(journal, _key("failed"), Failure("near", "draft", "timed_out", "no reply"))
    journal.close()
    again = Journal(tmp_path / "calls.jsonl")
    found = await _known(again, _key("a"))
    assert found == written
    assert found.handle is None
    assert await _known(again, _key("failed")) is None
    assert await _known(again, _key("other")) is None
    again.close()


@pytest.mark.parametrize("tail", [b'{"key":"abc', b"\x00" * 50, b'{"key":"abc"}', b'{"key":\n'])
async def test_an_incomplete_last_line_is_dropped_and_reported(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "calls.jsonl"
    journal = Journal(path)
    for text in "ab":
        await _keep(journal, _key(text), Generation(text))
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    journal = Journal(path)
    assert journal.torn
    assert path.read_bytes() == whole
    assert (await _known(journal, _key("b"))) == Generation("b")
    await _keep(journal, _key("c"), Generation("c"))
    journal.close()
    assert all(json.loads(line) for line in path.read_bytes().splitlines())


async def test_only_the_call_of_a_damaged_line_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    journal = Journal(path)
    for text in "abc":
        await _keep(journal, _key(text), Generation(text))
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:90] + b"#" * (len(lines[1]) - 91) + b"\n" + lines[2])
    journal = Journal(path)
    assert [await _known(journal, _key(text)) for text in "abc"] == [Generation("a"), None, Generation("c")]
    journal.close()


def test_a_truncated_file_has_the_complete_lines_before_the_cut(tmp_path: Path) -> None:
    content = b"".join(dump({"n": n, "text": "ä\n" * n}) for n in range(4))
    for length in range(len(content) + 1):
        path = tmp_path / "lines"
        path.write_bytes(content[:length])
        lines = Lines(path)
        kept = path.read_bytes()
        assert lines.torn == (kept != content[:length])
        assert [json.loads(line.data)["n"] for line in lines] == list(range(content[:length].count(b"\n")))
        lines.close()


def test_the_second_of_two_runs_is_refused_while_the_first_works(tmp_path: Path) -> None:
    hold = (
        "import sys; from pathlib import Path; from tests.batch.test_journal import Folder, _settings\n"
        "folder = Folder(Path(sys.argv[1]), _settings())\n"
        "sys.stdout.write('open'); sys.stdout.flush(); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.read(4) == b"open"
        with pytest.raises(InputError, match="another run is using"):
            Folder(tmp_path, _settings())
        other.kill()
        other.wait()
        Folder(tmp_path, _settings()).close()  # the lock of a dead run is no obstacle


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (_settings(_team().with_policy(rounds=2)), "policy.rounds: 1 → 2"),
        (_settings(questions="other.jsonl"), "questions: q.jsonl → other.jsonl"),
        (
            _settings(Team.from_dict({"clients": [{"name": "near", **SCRIPTED, "model": "new"}], "server": SCRIPTED})),
            "clients.near.model: script → new",
        ),
    ],
)
def test_other_settings_are_refused_with_the_difference(tmp_path: Path, now: Settings, said: str) -> None:
    Folder(tmp_path / "out", _settings()).close()
    with pytest.raises(InputError, match=said) as refused:
        Folder(tmp_path / "out", now)
    assert "--fresh" in refused.value.hint


def test_settings_that_do_not_affect_answers_may_change(tmp_path: Path) -> None:
    Folder(tmp_path, _settings()).close()
    patient = _team().with_policy(timeouts={"draft": 7}, max_loaded=1, strategy="vote")
    Folder(tmp_path, _settings(patient)).close()


def test_fresh_starts_over_and_keeps_the_old_content(tmp_path: Path) -> None:
    for count in (1, 2):
        folder = Folder(tmp_path / "out", _settings(), fresh=True)
        assert len(folder) == 0
        folder.record(_trace(f"run{count}"))
        folder.close()
    assert _ids(tmp_path / "out.1" / "traces.jsonl") == ["run1"]
    assert {path.name for path in (tmp_path / "out.1").iterdir()} == {
        "run.json",
        "calls.jsonl",
        "traces.jsonl",
        "answers.jsonl",
    }


async def test_a_changed_server_keeps_the_calls_and_moves_the_answers_aside(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out", _settings())
    await _keep(folder.journal, _key("draft"), Generation("Answer: 5"))
    folder.record(_trace("a"))
    folder.close()
    folder = Folder(tmp_path / "out", _settings(_team(model="larger")))
    assert any("server.model: script → larger" in note for note in folder.notes)
    assert await _known(folder.journal, _key("draft")) is not None
    assert folder.finished(_row("a"), "colm") is None
    folder.close()
    assert _ids(tmp_path / "out.1" / "answers.jsonl") == ["a"]


def test_no_secret_is_written(tmp_path: Path) -> None:
    server = {"backend": "openai", "model": "m", "base_url": "http://localhost:1/v1", "api_key_env": "SECRET_KEY"}
    server["extra_body"] = {"token": "hunter2"}
    clients = [{"name": "near", **SCRIPTED}]
    Folder(tmp_path, _settings(Team.from_dict({"clients": clients, "server": server}))).close()
    record = (tmp_path / "run.json").read_text("utf-8")
    assert "hunter2" not in record
    assert json.loads(record)["settings"]["server"]["base_url"] == "http://localhost:1/v1"


def test_answers_are_kept_and_failures_retried(tmp_path: Path) -> None:
    folder = Folder(tmp_path, _settings())
    for trace in (_trace("a"), _trace("b", answer="")):
        folder.record(trace)
    folder.close()
    folder = Folder(tmp_path, _settings())
    found = folder.finished(_row("a"), "colm")
    assert found == _trace("a")
    assert folder.finished(_row("b"), "colm") is None
    assert folder.finished(Row("a", "here", "another question?"), "colm") is None
    folder.close()


def test_closing_sorts_the_files(tmp_path: Path) -> None:
    folder = Folder(tmp_path, _settings())
    for trace in (_trace("c"), _trace("a", answer=""), _trace("b"), _trace("a"), _trace("gone", answer="")):
        folder.record(trace)
    folder.close([Key(id_, "colm") for id_ in "abc"], complete=True)
    assert _ids(tmp_path / "traces.jsonl") == _ids(tmp_path / "answers.jsonl") == ["a", "b", "c"]


def test_missing_answers_are_written_again_from_traces(tmp_path: Path) -> None:
    folder = Folder(tmp_path, _settings())
    for id_ in "ab":
        folder.record(_trace(id_))
    folder.close()
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(answers.read_bytes().splitlines(keepends=True)[0])
    Folder(tmp_path, _settings()).close()
    assert _ids(answers) == ["a", "b"]


def test_a_damaged_trace_is_dropped_and_reported(tmp_path: Path) -> None:
    folder = Folder(tmp_path, _settings())
    for id_ in "abc":
        folder.record(_trace(id_))
    folder.close()
    traces = tmp_path / "traces.jsonl"
    lines = traces.read_bytes().splitlines(keepends=True)
    traces.write_bytes(lines[0] + b"[1, 2\n" + lines[2])
    folder = Folder(tmp_path, _settings())
    assert folder.notes == ["traces.jsonl, line 2: dropped a damaged line; its question is asked again"]
    assert [folder.finished(_row(id_), "colm") is not None for id_ in "abc"] == [True, False, True]
    folder.close()
    assert _ids(traces) == _ids(tmp_path / "answers.jsonl") == ["a", "c"]
