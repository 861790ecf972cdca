"""The benchmarks of the machinery run and write down what they find; whether it is fast is not for tests to say."""

from __future__ import annotations

from pathlib import Path

import pytest

from colm_vl.errors import MissingPackage
from eval.bench import __main__ as command
from eval.bench import calls, endpoints
from eval.bench.figures import HEADING, Figure, write


def test_throughput_and_overhead_are_measured_against_real_endpoints() -> None:
    (saturated,) = endpoints.throughput(12)
    assert 0 < float(saturated.value) < 80
    (single,) = endpoints.overhead(2)
    assert float(single.value.rstrip("%")) > -50  # both are at the mercy of the machine


def test_a_call_is_measured_beside_plain_loops() -> None:
    cost, faster = calls.calls(4)
    assert 0 < float(cost.value.removesuffix(" ms")) < 100
    assert float(faster.value.removesuffix(" times")) > 0
    assert "plain aiohttp loop" in cost.how
    assert "the openai SDK's" in cost.how


def test_pictures_are_counted_over_a_batch() -> None:
    grown, coded = endpoints.memory(12)
    # So few questions say nothing about memory.
    assert (grown.value, grown.met, grown.missed) == ("not measured", None, False)
    assert coded.value == "1.00 and 2.00"
    assert coded.met


def test_figures_replace_their_own_rows_and_nothing_else(tmp_path: Path) -> None:
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


def test_the_brackets_of_a_hint_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise MissingPackage("package 'torch' is not installed", hint="pip install 'colm-vl[local]'")

    monkeypatch.setattr(command, "app", fail)
    with pytest.raises(SystemExit):
        command.main()
    assert "colm-vl[local]" in capsys.readouterr().err
