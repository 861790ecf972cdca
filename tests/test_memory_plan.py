"""`colm-vl team plan`: what fits in memory, and whether that is what models take."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from colm_vl import Team
from colm_vl.cli import app
from colm_vl.errors import InputError
from colm_vl.memory_plan import USABLE, plan_memory
from eval.bench.peak import peak

pytest.importorskip("torch", reason="local models need the extra 'local'", exc_type=ImportError)

ENDPOINT = {"backend": "openai", "model": "m", "base_url": "http://127.0.0.1:9/v1"}


def team(*models: Path | str, server: Mapping[str, Any] = ENDPOINT, **options: Any) -> Team:
    clients = [
        {"name": f"c{number}", "backend": "transformers", "model": str(model), **options}
        for number, model in enumerate(models)
    ]
    return Team.from_dict({"clients": clients, "server": server})


def planned(*arguments: str) -> dict[str, Any]:
    found = CliRunner().invoke(app, ["team", "plan", "--json", *arguments])
    assert found.exit_code in (0, 1), found.output
    plan: dict[str, Any] = json.loads(found.stdout)
    return plan


@pytest.fixture(scope="module")
def endless(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Models that write as many tokens as they may."""

    def copy(kind: str) -> Path:
        folder = shutil.copytree(tiny(kind), tmp_path_factory.mktemp(kind) / "model")
        file = folder / "generation_config.json"
        config = json.loads(file.read_text())
        file.write_text(json.dumps(config | {"suppress_tokens": [config["eos_token_id"]]}))
        return folder

    return copy


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of resident memory are read from /proc")
@pytest.mark.parametrize(("kind", "requests", "side"), [("qwen2_5_vl", 16, 224), ("llava", 16, 84)])
def test_the_plan_is_close_to_the_measured_peak(
    endless: Callable[[str], Path], kind: str, requests: int, side: int
) -> None:
    found = peak({"model": str(endless(kind)), "dtype": "float32"}, requests, 200, side)
    assert found.planned == pytest.approx(found.measured, rel=0.25, abs=8e6)


def test_as_many_models_are_loaded_and_requests_answered_as_fit() -> None:
    whole = planned("--size", "84x84")
    footprints = [member["footprint"] for member in whole["members"]]
    assert [fit["quantization"] for fit in whole["fits"]] == ["as set", "none", "int8", "nf4"]
    assert whole["fits"][0]["max_loaded"] == len(footprints) == 4
    assert all(one["weights"]["nf4"] < one["weights"]["int8"] < one["weights"]["none"] for one in footprints)

    def taken(models: int, requests: int) -> float:
        sizes = [
            one["weights"]["none"]
            + one["besides"]
            + requests * (one["kept"] + max(one["seeing"], one["reading"] + one["key_values"], 2 * one["key_values"]))
            for one in footprints
        ]
        return sum(sorted(sizes, reverse=True)[:models])

    memory = round((taken(3, 1) - 1) / USABLE)
    fit = planned("--size", "84x84", "--memory", f"{memory / 1e6}MB")["fits"][0]
    assert (fit["max_loaded"], fit["enough"]) == (2, False)
    assert fit["bytes"] == taken(2, fit["requests"]) <= USABLE * memory < taken(2, fit["requests"] + 1)


def test_the_table_says_what_to_set() -> None:
    found = CliRunner().invoke(app, ["team", "plan", "--size", "84x84", "--memory", "100MB"])
    assert found.exit_code == 0
    assert "Set max_loaded = 2 under [policy]" in found.stdout
    assert "Set max_batch = " in found.stdout
    found = CliRunner().invoke(app, ["team", "plan", "--size", "84x84", "--memory", "20MB"])
    assert found.exit_code == 1
    assert "Not every model fits alone" in found.stdout


def test_pictures_and_the_pixel_budget_count(tiny: Callable[[str], Path]) -> None:
    def tokens(pictures: int, **options: Any) -> int:
        plan = plan_memory(team(tiny("qwen2_5_vl"), **options), size=(448, 224), pictures=pictures)
        footprint = plan.members[0].footprint
        assert footprint is not None
        return footprint.picture_tokens

    assert tokens(0) == 0
    assert 40 < tokens(1) <= 64  # the model's own budget is 64 squares of 28 x 28
    assert tokens(2) == 2 * tokens(1)
    assert 8 < tokens(1, max_pixels=16 * 28 * 28) <= 16


def test_a_policy_that_loads_fewer_models_has_room_for_more_requests(tiny: Callable[[str], Path]) -> None:
    both = team(tiny("llava"), tiny("qwen2_5_vl"))
    alone = both.with_policy(max_loaded=1)
    plans = [plan_memory(one, memory=200_000_000).chosen for one in (both, alone)]
    assert [(plan.max_loaded, plan.enough) for plan in plans if plan] == [(2, True), (1, True)]
    assert plans[1].requests > plans[0].requests  # type: ignore[union-attr]


def test_what_is_not_on_this_machine_is_unknown(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    file = tmp_path / "team.toml"
    file.write_text(
        f'[[clients]]\nname = "here"\nbackend = "transformers"\nmodel = "{tiny("llava")}"\n'
        '[[clients]]\nname = "away"\nbackend = "transformers"\nmodel = "someone/model-that-is-not-cached"\n'
        '[server]\nbackend = "openai"\nmodel = "m"\nbase_url = "http://127.0.0.1:9/v1"\n'
    )
    found = CliRunner().invoke(app, ["team", "plan", str(file)])
    assert found.exit_code == 1
    told = " ".join(found.stdout.split())
    assert "away: model 'someone/model-that-is-not-cached': its config.json is not on this machine" in told
    assert "hf download someone/model-that-is-not-cached" in told
    members = {one["member"]: one for one in planned(str(file))["members"]}
    assert members["here"]["footprint"]["weights"]["none"] > 0
    assert (members["away"]["footprint"], bool(members["away"]["problem"])) == (None, True)
    assert (members["server"]["footprint"], members["server"]["problem"]) == (None, "")


def test_a_model_without_its_processor_is_unknown(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copy(tiny("qwen2_5_vl") / "config.json", tmp_path)
    (one, _) = plan_memory(team(tmp_path)).members
    assert one.footprint is None
    assert one.problem


def test_a_team_of_endpoints_needs_no_memory_here() -> None:
    plan = plan_memory(Team.from_dict({"clients": [{"name": "far", **ENDPOINT}], "server": ENDPOINT}))
    assert (plan.chosen, plan.known) == (None, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("--memory", "lots"), "memory is 'lots'"), (("--size", "84"), "the size of a picture is '84'")],
)
def test_sizes_that_cannot_be_read_are_refused(arguments: tuple[str, ...], said: str) -> None:
    found = CliRunner().invoke(app, ["team", "plan", *arguments])
    assert isinstance(found.exception, InputError)
    assert said in str(found.exception)
