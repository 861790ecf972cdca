"""Batches whose local models take turns in memory."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typing_extensions import override

from colm_vl import CoLM, ConfigError, Query, Team, merge_shards
from colm_vl.backends import registry, scripted
from colm_vl.batch.stats import BatchStats
from tests.batch.runs import read_lines, wording, write_questions
from tests.endpoint import Endpoint
from tests.teams import FIVE, GUIDANCE


class _Local(scripted.Options):
    """A scripted model that counts as a local one."""

    in_process: ClassVar[bool] = True


class _Watched(CoLM):
    """Counts how many local models are loaded at the same time."""

    @property
    def loads(self) -> Counter[str]:
        return self._engine._pool.loads


def _local_team(names: Sequence[str], max_loaded: int, *, replies: Sequence[Any] = (FIVE,), **policy: Any) -> Team:
    table = {"backend": "local", "model": "m", "replies": replies}
    return Team.from_dict(
        {
            "clients": [{"name": name, **table} for name in names],
            "server": {**table, "replies": [{"text": GUIDANCE + "\nAnswer: 5"}]},
            "policy": {"max_loaded": max_loaded, **policy},
        }
    )


@pytest.fixture
def most_loaded(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Register the backend `local`, and count its models in memory."""
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
        traces = list(colm.batch(write_questions(tmp_path, 30), tmp_path / "out", strategy=strategy, concurrency=4))
        loads = colm.loads
    assert [trace.id for trace in traces[:: len(strategy.split(","))]] == [f"q{number}" for number in range(30)]
    assert all(trace.answer == "5" and not trace.degraded for trace in traces)
    assert most_loaded["most"] == max_loaded
    assert loads["server"] == 1  # one stage
    assert all(loads[name] <= 2 for name in "abc")  # drafts and refinements
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) == (210 if strategy == "colm" else 330)


def test_an_endpoint_prefetches_nothing_long_before_it_is_asked(tmp_path: Path, most_loaded: Counter[str]) -> None:
    local = _local_team("ab", 1, prefetch=True)
    with Endpoint(GUIDANCE) as endpoint:
        table = {"backend": "openai", "model": "m", "base_url": endpoint.base_url}
        server = Team.from_dict({"clients": [{"name": "any", **table}], "server": table}).server
        with CoLM(Team(local.clients, server, local.policy)) as colm:
            traces = list(colm.batch(write_questions(tmp_path, 5), tmp_path / "out"))
    assert len(endpoint.seen) == 5
    assert all(trace.guidance and not trace.degraded for trace in traces)


def test_calls_made_in_an_earlier_pass_do_not_count_as_avoided(tmp_path: Path, most_loaded: Counter[str]) -> None:
    path, names = write_questions(tmp_path, 6), "vote,colm"
    with CoLM(_local_team("ab", 1, replies=[{"text": FIVE, "delay": 0.01}])) as colm:
        stats = BatchStats()
        traces = list(colm.batch(path, tmp_path / "out", strategy=names, stats=stats))
    assert (stats.calls, stats.avoided) == (6 * 5, 0)
    for vote, whole in zip(traces[::2], traces[1::2], strict=True):
        assert [call.reused for call in vote.calls] == [False, False]
        assert [call.reused for call in whole.calls] == [True, True, False, False, False]
        clients = [call for call in (*vote.calls, *whole.calls) if call.member != "server"]
        assert all(call.seconds >= 0.01 for call in clients if not call.reused)
    for name in ("traces.jsonl", "answers.jsonl"):
        (tmp_path / "out" / name).unlink()
    with CoLM(_local_team("ab", 1, replies=[{"text": FIVE, "delay": 0.01}])) as colm:
        stats = BatchStats()
        traces = list(colm.batch(path, tmp_path / "out", strategy=names, stats=stats))
    assert (stats.calls, stats.avoided) == (0, 6 * 5)
    assert all(call.reused for trace in traces for call in trace.calls)


def test_times_of_a_question_are_those_of_all_its_passes(most_loaded: Counter[str]) -> None:
    """Each member has a pass of its own, so the calls of a question come one after the other."""
    with CoLM(_local_team("ab", 1, replies=[{"text": FIVE, "delay": 0.02}])) as colm:
        traces = list(colm.batch([Query(wording(number)) for number in range(3)], strategy="vote,colm"))
    for trace in traces:
        made = [call for call in trace.calls if not call.reused]
        assert len(made) == (2 if trace.strategy == "vote" else 3)
        ends = [call.started + call.seconds for call in made]
        assert all(end <= call.started for end, call in zip(ends, made[1:], strict=False))
        assert ends[-1] <= trace.seconds
        assert [call.started for call in trace.calls] == sorted(call.started for call in trace.calls)


def test_a_model_that_fails_is_not_tried_in_every_pass(tmp_path: Path, most_loaded: Counter[str]) -> None:
    team = _local_team("ab", 1)
    broken = Team.from_dict(
        {"clients": [{"name": "a", "backend": "local", "model": "m", "replies": [{"error": "load_failed"}]}]}
    ).clients[0]
    with _Watched(Team((broken, team.clients[1]), team.server, team.policy)) as colm:
        traces = list(colm.batch(write_questions(tmp_path, 5), tmp_path / "out"))
        assert colm.loads == {"a": 1, "b": 2, "server": 1}
    assert all(trace.answer == "5" and trace.degraded and len(trace.failures) == 1 for trace in traces)


def test_passes_are_resumed_after_an_interruption(tmp_path: Path, most_loaded: Counter[str]) -> None:
    path = write_questions(tmp_path, 10)

    async def interrupted() -> None:
        async with CoLM(_local_team("ab", 1)) as colm:
            async for _ in colm.batch(path, tmp_path / "out", strategy="solo,colm"):
                break

    asyncio.run(interrupted())
    calls = read_lines(tmp_path / "out" / "calls.jsonl")
    with CoLM(_local_team("ab", 1)) as colm:
        traces = list(colm.batch(path, tmp_path / "out", strategy="solo,colm"))
    assert all(trace.answer for trace in traces)
    assert read_lines(tmp_path / "out" / "calls.jsonl")[: len(calls)] == calls
    assert len(read_lines(tmp_path / "out" / "calls.jsonl")) == 50


def test_an_interruption_in_a_later_pass_keeps_the_failures_that_are_recorded(
    tmp_path: Path, most_loaded: Counter[str]
) -> None:
    path, stats = write_questions(tmp_path, 12), BatchStats()
    replies = [{"when": "number 11?", "error": "unreachable"}, {"text": FIVE}]

    async def interrupted() -> None:
        async with CoLM(_local_team("ab", 1, replies=replies)) as colm:

            async def follow() -> None:
                async for _ in colm.batch(path, tmp_path / "out", concurrency=1, stats=stats):
                    pass

            following = asyncio.create_task(follow())
            while not stats.stage("guide").made:  # noqa: ASYNC110 - counted in another thread: nothing to await
                await asyncio.sleep(0.001)
            following.cancel()
            await asyncio.wait([following])

    asyncio.run(interrupted())
    assert stats.failed == 1
    lines = read_lines(tmp_path / "out" / "answers.jsonl")
    assert [line["id"] for line in lines if line["error"]] == ["q11"]


def test_a_shard_of_an_iterator_tells_the_merge_what_it_has_read(tmp_path: Path, most_loaded: Counter[str]) -> None:
    with CoLM(_local_team("ab", 1)) as colm:
        for index in (1, 2):
            asked = (Query(f"How many in {number}?", id=str(number)) for number in range(8))
            list(colm.batch(asked, tmp_path / "out", shard=f"{index}/2"))
    merged = merge_shards(tmp_path / "out")
    assert (merged.complete, merged.answered) == (True, 8)


def test_a_batch_can_only_lower_the_number_of_models_in_memory(tmp_path: Path, most_loaded: Counter[str]) -> None:
    path = write_questions(tmp_path, 4)
    with CoLM(_local_team("ab", 2, prefetch=True)) as colm:
        for more in (3, None):
            with pytest.raises(ConfigError, match="for this batch, and 2 for the team"):
                list(colm.batch(path, max_loaded=more))
        assert most_loaded["most"] == 0
    with _Watched(_local_team("ab", 3, prefetch=True)) as colm:
        assert all(trace.answer == "5" for trace in colm.batch(path, max_loaded=1))
        assert colm.loads["server"] == 1  # no prefetch in a pass of the clients
