"""The section of a report on time: percentiles of questions and calls, and the parts of calls."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from colm_vl import Capabilities, CoLM, Generation, Request, Team, Timing, Trace
from eval.benchmarks.registry import find
from eval.evaluator import plan, run
from eval.report.frames import Report
from eval.report.write import write_report
from eval.run_folder import read_evaluation
from tests.eval import published

PARTS = ("queued", "prefill", "decode")


class Timed:
    """Replies at once, and says that it took the times of `timing`."""

    def __init__(self, timing: Timing, delay: float = 0.0) -> None:
        self._timing = timing
        self._delay = delay

    async def generate(self, request: Request) -> Generation:
        await asyncio.sleep(self._delay)
        return Generation("Answer: (B)", timing=self._timing, seconds=max(self._timing.known, self._delay))

    async def stream(self, request: Request) -> AsyncIterator[Generation]:
        yield await self.generate(request)

    async def capabilities(self) -> Capabilities:
        return Capabilities()

    async def aclose(self) -> None:
        pass


def ask(folder: Path, strategies: tuple[str, ...] = ("vote", "colm"), delay: float = 0.0) -> None:
    table = {"backend": "scripted", "model": "script", "replies": ["unused"]}
    team = Team.from_dict({"clients": [{"name": name, **table} for name in ("near", "far")], "server": table})
    backends = {
        "near": Timed(Timing(0.001, 0.002, 0.003)),
        "far": Timed(Timing(queued=0.001), delay),
        "server": Timed(Timing()),
    }
    with CoLM(team, backends=backends) as colm:
        list(run(colm, plan(find("ai2d"), published.ai2d(folder.parent)), strategies, folder))


def rows(folder: Path) -> dict[tuple[str, str], dict[str, Any]]:
    frame = Report.of(read_evaluation(folder)).times()
    return {(row["stage"], row["member"]): row for row in frame.to_dict("records")}


def test_parts_are_told_by_stage_and_member_and_unknown_ones_are_not_invented(tmp_path: Path) -> None:
    ask(tmp_path / "run")
    found = rows(tmp_path / "run")
    assert list(found) == [
        ("draft", "near"), ("draft", "far"), ("guide", "server"), ("refine", "near"), ("refine", "far"),
    ]  # fmt: skip
    near, far, server = found["draft", "near"], found["draft", "far"], found["guide", "server"]
    asked = len(read_evaluation(tmp_path / "run").items)
    assert near["calls"] == asked  # the drafts of `vote`, which `colm` reuses
    assert [near[f"{part}_p95"] for part in PARTS] == pytest.approx([0.001, 0.002, 0.003])
    assert [near[f"totals_{part}"] for part in PARTS] == pytest.approx([0.001 * asked, 0.002 * asked, 0.003 * asked])
    assert far["queued_p50"] == pytest.approx(0.001)
    assert [server[f"totals_{part}"] for part in PARTS] == [0, 0, 0]
    assert server["totals_unknown"] > 0
    write_report([tmp_path / "run"], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    lines = {line.split(" |")[0]: line for line in text.splitlines() if line.startswith("| ")}
    assert lines["| Drafts, near"].count("0.001 / 0.001 / 0.001 | 0.002 / 0.002 / 0.002 | 0.003 / 0.003 / 0.003") == 1
    assert lines["| Guidance, server"].endswith("| – | – | – |")
    assert (tmp_path / "report" / "time.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "report" / "report.json").read_text())["runs"][0]["time"]["questions"] == asked


def test_a_strategy_is_timed_as_if_it_had_been_run_alone(tmp_path: Path) -> None:
    ask(tmp_path / "run", delay=0.2)
    found = Report.of(read_evaluation(tmp_path / "run")).latencies().set_index("strategy")
    assert 0.2 <= found.loc["vote", "whole_p50"] < 0.4
    assert 0.4 <= found.loc["colm", "whole_p50"] < 0.6  # a draft and a refinement


def test_a_resumed_run_keeps_the_times_of_its_calls(tmp_path: Path) -> None:
    ask(tmp_path / "run")
    before = rows(tmp_path / "run")["draft", "near"]
    (tmp_path / "run" / "traces.jsonl").unlink()
    (tmp_path / "run" / "answers.jsonl").unlink()
    ask(tmp_path / "run")
    traces = [trace for traces in read_evaluation(tmp_path / "run").traces.values() for trace in traces]
    assert all(call.reused for trace in traces for call in trace.calls)
    after = rows(tmp_path / "run")["draft", "near"]
    for part in PARTS:
        assert after[f"{part}_p99"] == before[f"{part}_p99"]
    assert after["calls"] == before["calls"]


def test_traces_without_times_are_read_and_their_parts_are_unknown(tmp_path: Path) -> None:
    ask(tmp_path / "run")
    path = tmp_path / "run" / "traces.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        for call in record["calls"]:
            del call["timing"]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert {call.timing for record in records for call in Trace.from_dict(record).calls} == {Timing()}
    near = rows(tmp_path / "run")["draft", "near"]
    assert near["totals_unknown"] > 0
    assert not any(near[f"totals_{part}"] for part in PARTS)
    write_report([tmp_path / "run"], tmp_path / "report")
    assert "| Drafts, near |" in (tmp_path / "report" / "report.md").read_text()
