"""Many questions in one run: order, resuming, sharing, stopping, pictures, models that take turns."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import PIL.Image
import pytest
from typing_extensions import override

from colm_vl import CoLM, ConfigError, Image, InputError, Query, Team
from colm_vl.backends import registry, scripted
from colm_vl.backends.base import Request
from colm_vl.batch.tally import Tally
from processors import images
from tests.teams import FIVE, GUIDANCE, Scripted
from tests.teams import scripted as team_of


def _ask(number: int) -> str:
    return f"How many dots in number {number}?"


def _questions(folder: Path, count: int, **more: Any) -> Path:
    path = folder / "questions.jsonl"
    rows = ({"id": f"q{number}", "question": _ask(number), **more} for number in range(count))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _team(**policy: Any) -> Scripted:
    return team_of({"near": [FIVE], "far": ["Answer: 4\nConfidence: 20"]}, [GUIDANCE], **policy)


def _made(colm: Scripted) -> dict[str, int]:
    return {name: len(backend.requests) for name, backend in colm.backends.items()}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_traces_come_in_the_order_of_the_questions(tmp_path: Path) -> None:
    def slow_at_first(request: Request) -> scripted.Reply:
        number = int(request.messages[1].text.split("number ")[1].split("?")[0])
        return scripted.Reply(text=FIVE, delay=0.03 if number % 7 == 0 else 0.001)

    with team_of({"near": slow_at_first}, strategy="vote") as colm:
        traces = list(colm.batch(_questions(tmp_path, 60), tmp_path / "out", strategy="vote", concurrency=5))
    assert [trace.id for trace in traces] == [f"q{number}" for number in range(60)]
    for name in ("traces.jsonl", "answers.jsonl"):
        assert [line["id"] for line in _lines(tmp_path / "out" / name)] == [trace.id for trace in traces]


def test_answers_tell_what_each_client_said(tmp_path: Path) -> None:
    with _team() as colm:
        list(colm.batch(_questions(tmp_path, 1), tmp_path / "out"))
    (line,) = _lines(tmp_path / "out" / "answers.jsonl")
    assert line["clients"] == {"near": "5", "far": "4"}
    assert (line["id"], line["answer"], line["error"]) == ("q0", "5", None)


def test_a_finished_run_is_read_back_without_a_call(tmp_path: Path) -> None:
    path = _questions(tmp_path, 20, level="hard")
    with _team() as colm:
        first = list(colm.batch(path, tmp_path / "out"))
    with _team() as colm:
        again = list(colm.batch(path, tmp_path / "out"))
        assert not any(_made(colm).values())
    assert again == first
    assert again[0].metadata == {"level": "hard"}


def test_strategies_pay_for_what_they_share_once(tmp_path: Path) -> None:
    tally = Tally()
    with _team() as colm:
        plan = colm.plan(_questions(tmp_path, 10), strategy="solo,vote,concat,verdict,colm")
        assert not any(_made(colm).values())
        found = list(
            colm.batch(
                _questions(tmp_path, 10), tmp_path / "out", strategy="solo,vote,concat,verdict,colm", tally=tally
            )
        )
        # Two drafts, two refinements from the peers, the verdict, the guidance, two refinements from it.
        assert _made(colm) == {"near": 30, "far": 30, "server": 20}
    assert plan.total == tally.calls == 80
    assert [(trace.id, trace.strategy) for trace in found[:6]] == [
        ("q0", "solo"),
        ("q0", "vote"),
        ("q0", "concat"),
        ("q0", "verdict"),
        ("q0", "colm"),
        ("q1", "solo"),
    ]
    assert tally.answered == tally.total == 50


def test_a_strategy_added_later_finds_the_drafts(tmp_path: Path) -> None:
    path = _questions(tmp_path, 10)
    with _team() as colm:
        list(colm.batch(path, tmp_path / "out", strategy="vote"))
    with _team() as colm:
        list(colm.batch(path, tmp_path / "out", strategy="vote,colm"))
        assert _made(colm) == {"near": 10, "far": 10, "server": 10}
    assert len(_lines(tmp_path / "out" / "answers.jsonl")) == 20


def test_a_changed_server_finds_the_drafts(tmp_path: Path) -> None:
    data = {
        "clients": [{"name": "near", "backend": "scripted", "model": "m", "replies": [FIVE]}],
        "server": {"backend": "scripted", "model": "m", "replies": [GUIDANCE]},
    }
    for replies, drafted in (([GUIDANCE], 0), (["Evidence: seven"], 5)):
        data["server"] = {"backend": "scripted", "model": "m", "replies": replies}
        tally = Tally()
        with CoLM(Team.from_dict(data)) as colm:
            list(colm.batch(_questions(tmp_path, 5), tmp_path / "out", tally=tally))
        assert tally.stage("draft").avoided == drafted
        assert tally.stage("guide").made == tally.stage("refine").made == 5


def test_failed_questions_are_counted_and_tried_again(tmp_path: Path) -> None:
    path = _questions(tmp_path, 6)
    gone = {"when": "number 3?", "error": "unreachable"}
    tally = Tally()
    with team_of({"near": [gone, FIVE]}, [GUIDANCE]) as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="vote,colm", tally=tally))
        assert len(colm.requests("near")) == 6 + 5  # the second strategy does not wait for the same failure again
    assert [trace.id for trace in traces if not trace.answer] == ["q3", "q3"]
    assert (tally.total, tally.answered, tally.failed) == (12, 10, 2)
    assert [line["error"] is None for line in _lines(tmp_path / "out" / "answers.jsonl")].count(False) == 2
    tally = Tally()
    with team_of({"near": [FIVE]}, [GUIDANCE]) as colm:
        list(colm.batch(path, tmp_path / "out", strategy="vote,colm", tally=tally))
        assert len(colm.requests("near")) == 2
    assert (tally.total, tally.kept, tally.answered, tally.failed) == (12, 10, 2, 0)
    assert [line["id"] for line in _lines(tmp_path / "out" / "answers.jsonl")][6:8] == ["q3", "q3"]


def test_bad_rows_are_recorded_failures_named_by_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    good = json.dumps({"question": "Good?"})
    path.write_text(f'{good}\n{{bad\n{{"id": "x"}}\n{{"question": "Seen?", "image": "gone.png"}}\n{good}\n')
    with _team() as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="vote"))
    assert [bool(trace.answer) for trace in traces] == [True, False, False, False, True]
    errors = [line["error"] for line in _lines(tmp_path / "out" / "answers.jsonl")][1:4]
    assert errors[0].startswith("q.jsonl, line 2: is not valid JSON")
    assert errors[1].startswith("q.jsonl, line 3: the question is missing")
    assert errors[2].startswith("q.jsonl, line 4: the picture ")
    path.write_text(f'{good}\n{{"question": "Mended?"}}\n{{"id": "x", "question": "Q?"}}\n')
    with _team() as colm:
        assert all(trace.answer for trace in colm.batch(path, tmp_path / "out", strategy="vote"))
    assert [line["id"] for line in _lines(tmp_path / "out" / "answers.jsonl")] == ["1", "2", "x", "5"]


def test_an_id_used_twice_is_refused_before_any_call(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text('{"id": "a", "question": "1?"}\n{"id": "a", "question": "2?"}\n')
    with _team() as colm:
        with pytest.raises(InputError, match="used before"):
            list(colm.batch(path, tmp_path / "out"))
        assert not any(_made(colm).values())


def test_wrong_arguments_are_refused_at_once(tmp_path: Path) -> None:
    path = _questions(tmp_path, 1)
    with _team() as colm:
        for arguments in ({"strategy": "solo,nonsense"}, {"concurrency": 0}, {"rounds": 99}, {"strategy": []}):
            with pytest.raises(ConfigError):
                colm.batch(path, tmp_path / "out", **arguments)  # type: ignore[arg-type]
        with pytest.raises(InputError):
            colm.batch(tmp_path / "gone.jsonl", tmp_path / "out")


async def test_a_batch_can_be_followed_in_a_running_loop_and_without_a_folder(dots: Query) -> None:
    async with _team() as colm:
        traces = [trace async for trace in colm.batch([dots, Query("And here?", id="b")], strategy="vote")]
    assert [(trace.id, trace.answer) for trace in traces] == [("1", "5"), ("b", "5")]


def test_a_slow_reader_does_not_let_the_batch_run_away(tmp_path: Path) -> None:
    with _team() as colm:
        traces = iter(colm.batch(_questions(tmp_path, 200), tmp_path / "out", strategy="solo", concurrency=2))
        next(traces)
        time.sleep(0.2)  # nothing to await: what is tested is that nothing happens
        assert len(colm.requests("near")) <= 12
        traces.close()  # type: ignore[attr-defined]


def test_leaving_early_keeps_what_is_under_way(tmp_path: Path) -> None:
    path = _questions(tmp_path, 50)
    with team_of({"near": [{"text": FIVE, "delay": 0.02}], "far": [FIVE]}, [GUIDANCE]) as colm:
        for _ in colm.batch(path, tmp_path / "out", strategy="solo", concurrency=8):
            break
        made = len(colm.requests("near"))
    assert len(_lines(tmp_path / "out" / "calls.jsonl")) == made
    with _team() as colm:
        list(colm.batch(path, tmp_path / "out", strategy="solo"))
        assert len(colm.requests("near")) == 50 - made


def test_ctrl_c_finishes_what_is_under_way_and_says_how_to_go_on(tmp_path: Path) -> None:
    team = tmp_path / "team.toml"
    reply = '[{ text = "Answer: 5", delay = 0.2 }]'
    team.write_text(f'[[clients]]\nname = "near"\nbackend = "scripted"\nmodel = "m"\nreplies = {reply}\n')
    command = [sys.executable, "-m", "colm_vl.cli", "batch", str(_questions(tmp_path, 400)), "--team", str(team)]
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
    assert "the same command goes on" in err
    assert "of 400 answered" in out
    answered = len(_lines(tmp_path / "out" / "answers.jsonl"))
    assert answered == len(_lines(calls)) > 0


# --- pictures ---


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often pictures are decoded and encoded."""
    count: Counter[str] = Counter()
    lock = threading.Lock()

    def watch(name: str, real: Callable[..., Any]) -> None:
        def counted(*args: Any) -> Any:
            with lock:
                count[name] += 1
            return real(*args)

        monkeypatch.setattr(images, name, counted)

    watch("_decode", images._decode)
    watch("_encode", images._encode)
    return count


def test_each_picture_is_decoded_once_and_encoded_once_for_each_budget(tmp_path: Path, decoded: Counter[str]) -> None:
    rows = []
    for number in range(20):
        PIL.Image.new("RGB", (90, 60), (number, 0, 0)).save(tmp_path / f"{number}.png")
        rows += [{"question": f"{ask} {number}?", "image": f"{number}.png"} for ask in ("What", "Where")]
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def encoding(max_pixels: int | None) -> Any:
        def reply(request: Request) -> str:
            assert [image.data_uri(max_pixels) for image in request.images]
            return FIVE

        return reply

    team = {"near": encoding(None), "far": encoding(None), "small": encoding(1000)}
    with team_of(team, encoding(None)) as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="vote,verdict,colm", concurrency=3))
    assert all(trace.answer for trace in traces)
    assert decoded == {"_decode": 20, "_encode": 40}


def test_pictures_are_let_go_of(tmp_path: Path) -> None:
    alive = Counter[str]()

    def made() -> Iterator[Query]:
        import weakref

        for number in range(60):
            picture = Image.open(PIL.Image.new("RGB", (64, 64), (number, 0, 0)))
            alive["now"] += 1
            alive["most"] = max(alive["most"], alive["now"])
            weakref.finalize(picture, lambda: alive.subtract(["now"]))
            yield Query(_ask(number), (picture,))
            del picture

    with _team() as colm:
        for _ in colm.batch(made(), tmp_path / "out", concurrency=3):
            for backend in colm.backends.values():
                backend.requests.clear()  # they hold the pictures
    assert alive["most"] <= 20


# --- models that take turns ---


class _Local(scripted.Options):
    """A scripted model that counts as one of this process."""

    in_process: ClassVar[bool] = True


class _Watched(CoLM):
    """Counts how many local models were loaded at once."""

    @property
    def loads(self) -> Counter[str]:
        return self._pool.loads


def _local_team(names: Sequence[str], max_loaded: int, **policy: Any) -> Team:
    table = {"backend": "local", "model": "m", "replies": [{"text": FIVE}]}
    return Team.from_dict(
        {
            "clients": [{"name": name, **table} for name in names],
            "server": {**table, "replies": [{"text": GUIDANCE + "\nAnswer: 5"}]},
            "policy": {"max_loaded": max_loaded, **policy},
        }
    )


@pytest.fixture
def most_loaded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Announces the backend `local`, and counts its models in memory."""
    count = Counter[str]()

    class Backend(scripted.ScriptedBackend):
        @override
        async def aclose(self) -> None:
            count["now"] -= 1
            await super().aclose()

    class Module:
        Options = _Local

        @staticmethod
        def connect(options: _Local) -> Backend:
            count["now"] += 1
            count["most"] = max(count["most"], count["now"])
            return Backend(options.replies, options)

    real = registry._module
    monkeypatch.setattr(registry, "_module", lambda name: Module if name == "local" else real(name))
    return count


@pytest.mark.parametrize("max_loaded", [1, 2])
@pytest.mark.parametrize("strategy", ["colm", "solo,vote,concat,verdict,colm"])
def test_each_model_is_loaded_at_most_once_a_stage(
    tmp_path: Path, most_loaded: Counter[str], max_loaded: int, strategy: str
) -> None:
    with _Watched(_local_team("abc", max_loaded)) as colm:
        traces = list(colm.batch(_questions(tmp_path, 30), tmp_path / "out", strategy=strategy, concurrency=4))
        loads = colm.loads
    assert [trace.id for trace in traces[:: len(strategy.split(","))]] == [f"q{number}" for number in range(30)]
    assert all(trace.answer == "5" and not trace.degraded for trace in traces)
    assert most_loaded["most"] == max_loaded
    assert loads["server"] == 1  # one stage
    assert all(loads[name] <= 2 for name in "abc")  # drafts and refinements
    assert len(_lines(tmp_path / "out" / "calls.jsonl")) == (210 if strategy == "colm" else 330)


def test_a_model_that_fails_is_not_tried_in_every_pass(tmp_path: Path, most_loaded: Counter[str]) -> None:
    team = _local_team("ab", 1)
    broken = Team.from_dict(
        {"clients": [{"name": "a", "backend": "local", "model": "m", "replies": [{"error": "load_failed"}]}]}
    ).clients[0]
    with _Watched(Team((broken, team.clients[1]), team.server, team.policy)) as colm:
        traces = list(colm.batch(_questions(tmp_path, 5), tmp_path / "out"))
        assert colm.loads == {"a": 1, "b": 2, "server": 1}
    assert all(trace.answer == "5" and trace.degraded and len(trace.failures) == 1 for trace in traces)


def test_passes_go_on_after_an_interruption(tmp_path: Path, most_loaded: Counter[str]) -> None:
    path = _questions(tmp_path, 10)

    async def interrupted() -> None:
        async with CoLM(_local_team("ab", 1)) as colm:
            async for _ in colm.batch(path, tmp_path / "out", strategy="solo,colm"):
                break

    asyncio.run(interrupted())
    calls = _lines(tmp_path / "out" / "calls.jsonl")
    with CoLM(_local_team("ab", 1)) as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="solo,colm"))
    assert all(trace.answer for trace in traces)
    assert _lines(tmp_path / "out" / "calls.jsonl")[: len(calls)] == calls
    assert len(_lines(tmp_path / "out" / "calls.jsonl")) == 50


def test_all_strategies_run_side_by_side_and_as_planned(tmp_path: Path) -> None:
    names = "solo,solo:far,server,vote,self_consistency,concat,verdict,moa,colm"
    path, tally = _questions(tmp_path, 4), Tally()
    with team_of({"near": [FIVE], "far": ["Answer: 4"]}, [GUIDANCE + "\nAnswer: 5"]) as colm:
        plan = colm.plan(path, strategy=names)
        traces = list(colm.batch(path, tmp_path / "out", strategy=names, tally=tally))
    assert [trace.strategy for trace in traces[:9]] == names.split(",")
    assert all(trace.answer for trace in traces)
    assert plan.total == tally.calls
    # Drafts: two, and five samples; peers' drafts are shown once for concat and moa; verdict of the server alone,
    # from the drafts and from the second layer; guidance; refinements.
    assert tally.calls == 4 * (2 + 5 + 2 + 3 + 1 + 2)
