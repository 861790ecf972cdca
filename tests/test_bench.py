"""`eval.bench` measures and writes its figures. The tests do not check the figures themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from colm_vl.errors import MissingPackage
from eval.bench import __main__ as command
from eval.bench import calls, endpoints, fairness, load, prefetch, sharded, stragglers
from eval.bench.figures import HEADING, Figure, write


def test_throughput_and_overhead_are_measured() -> None:
    (saturated,) = endpoints.throughput(12)
    assert 0 < float(saturated.value) < 80
    (single,) = endpoints.overhead(2)
    assert float(single.value.rstrip("%")) > -50  # other load can slow either of the two down


def test_calls_are_compared_with_plain_loops() -> None:
    cost, faster = calls.calls(4)
    assert 0 < float(cost.value.removesuffix(" ms")) < 100
    assert float(faster.value.removesuffix(" times")) > 0
    assert "plain aiohttp loop" in cost.how
    assert "the openai SDK" in cost.how


def test_streams_of_many_clients_are_counted_at_a_real_service() -> None:
    for figure in load.load(4, 2):
        if figure.name.startswith("dropped"):
            assert figure.value == "0 of 8"


def test_decodings_and_encodings_of_a_batch_are_counted() -> None:
    grown, coded = endpoints.memory(12)
    # Memory is not measured with so few questions.
    assert (grown.value, grown.met, grown.missed) == ("not measured", None, False)
    assert coded.value == "1.00 and 2.00"
    assert coded.met


def test_writing_figures_replaces_only_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "BENCHMARKS.md"
    path.write_text("# Benchmarks\n\n## Before\n\ntext\n\n## After\n\nmore\n", "utf-8")
    write(path, [Figure("one", "1", "≥ 1", True, "so"), Figure("two", "2", "≥ 3", False, "so")], "a", "here")
    write(path, [Figure("two", "3", "≥ 3", True, "so")], "b", "there")
    text = path.read_text("utf-8")
    assert text.count(HEADING) == 1
    assert "| one | 1 | ≥ 1 | so | `a` | here |" in text
    assert "| two | 3 | ≥ 3 | so | `b` | there |" in text
    assert "missed" not in text
    assert text.startswith("# Benchmarks\n\n## Before\n\ntext\n")
    assert "## After\n\nmore\n" in text


def test_fairness_is_measured_with_a_real_service() -> None:
    wait, minute, at_once, tokens, lost = fairness.fairness(2, 20, latency=0.02)
    assert wait.value.endswith("service times")
    assert (minute.met, at_once.met, tokens.met) == (True, True, True)  # these do not depend on the machine
    assert lost.value.startswith("0 calls go on")


def test_resuming_and_merging_are_measured() -> None:
    figures = sharded.sharded(400)
    assert [figure.name for figure in figures][:3] == [
        "resuming a finished shard", "merging shards", "resuming a finished run",
    ]  # fmt: skip
    assert all(figure.met for figure in figures[:3])


def test_stragglers_are_measured() -> None:
    spent, places = stragglers.stragglers(2, 20, latency=0.05)
    assert 0.6 < float(spent.value.removesuffix(" s")) < 2  # the slow client's draft alone takes 1 s, and its turns 2
    assert places.value == "0 calls go on, 8 of 8 places in use"


def test_prefetch_is_measured_in_process(tiny: Callable[[str], Path]) -> None:
    sooner, cached, differing, wasted = prefetch.in_process(tiny("qwen2_5_vl"), pairs=1, drafting=1.0, tokens=8)
    assert sooner.value.endswith("without")
    assert cached.met
    assert differing.value == "0 of 2"
    assert wasted.value.endswith("per question")


def test_brackets_in_a_hint_are_printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise MissingPackage("package 'torch' is not installed", hint="pip install 'colm-vl[local]'")

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit):
        command.main()
    assert "colm-vl[local]" in capsys.readouterr().err
