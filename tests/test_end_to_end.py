"""All stages on real pictures, with real architectures in this process and a real server over HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import tiny_models
from tests.serving import transformers_serve

PICTURES = Path(__file__).parents[2] / "shared" / "conformance" / "scienceqa" / "images"

TEAM = """
[[clients]]
name = "maps"
specialty = "maps and globes"
backend = "transformers"
model = "{qwen}"

[[clients]]
name = "small"
specialty = "diagrams"
backend = "transformers"
model = "{qwen}"
quantization = "nf4"

[[clients]]
name = "photos"
specialty = "photographs"
backend = "transformers"
model = "{llava}"

[server]
backend = "openai"
model = "{served_model}"
base_url = "{base_url}"

[policy.sampling]
draft = {{ max_tokens = 12 }}
guide = {{ max_tokens = 12 }}
refine = {{ max_tokens = 12 }}
"""


@pytest.fixture(scope="module")
def team(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    missing = transformers_serve.missing_package()
    if missing:
        pytest.skip(f"transformers serve needs {missing}: pip install 'colm-vl[dev]'")
    folder = tmp_path_factory.mktemp("team")
    big = tiny_models.build("qwen2_5_vl", folder / "big", seed=1)
    with transformers_serve.serve(transformers_serve.images_only(big, folder / "served")) as served:
        file = folder / "team.toml"
        models = {"qwen": tiny("qwen2_5_vl"), "llava": tiny("llava"), "served_model": served.model}
        file.write_text(TEAM.format(**models, base_url=served.base_url))
        yield file


def picture(dots_png: bytes, folder: Path) -> Path:
    """A real picture if there is one, or else the drawn one."""
    real = sorted(PICTURES.glob("*.png"))
    if real:
        return real[0]
    drawn = folder / "dots.png"
    drawn.write_bytes(dots_png)
    return drawn


def ask(team: Path, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "colm_vl.cli", "ask", "--team", str(team), "--json", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    trace: dict[str, Any] = json.loads(done.stdout)
    return trace


def test_all_stages_on_a_real_picture(team: Path, dots_png: bytes, tmp_path: Path) -> None:
    trace = ask(team, "-q", "Which continent is highlighted?", "--image", picture(dots_png, tmp_path))
    assert trace["failures"] == []
    for stage in ("drafts", "refinements"):
        assert {reply["client"] for reply in trace[stage]} == {"maps", "small", "photos"}
    calls = {(call["stage"], call["member"]): call for call in trace["calls"]}
    assert calls["guide", "server"]["sent"]["bytes"] > 1000  # the picture went over the wire
    assert calls["draft", "maps"]["sent"]["bytes"] == 0  # and did not for a model in this process
    assert all(call["usage"]["prompt_tokens"] and call["usage"]["completion_tokens"] for call in trace["calls"])
    assert all(draft["confidence"]["source"] in ("logprobs", "unknown") for draft in trace["drafts"])


def test_questions_without_pictures_use_the_same_stages(team: Path) -> None:
    trace = ask(team, "-q", "Which is larger, 7 or 9?", "-c", "7", "-c", "9")
    assert len(trace["guidance"]) == 1
    assert len(trace["refinements"]) == 3
    assert trace["images"] == []
