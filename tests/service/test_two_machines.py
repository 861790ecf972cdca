"""The pocket team on two machines, its clients here and its server there, answers as it does in one process.

`COLM_VL_TWO_MACHINES=200` asks so many questions; without it, a few.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from colm_vl import Trace
from colm_vl.pocket import team_file, world
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.service import keys
from colm_vl.service.keys import QuotaTable
from processors.images import Image
from tests.service.hosted import ROOT, read_address
from tests.service.machines import Machine, two_machines

QUESTIONS = int(os.environ.get("COLM_VL_TWO_MACHINES", "8"))
STRATEGIES = "colm,verdict"


def write_questions(folder: Path) -> Path:
    """Two questions about each scene."""
    lines = []
    for number in range(QUESTIONS // 2):
        domain = tuple(DOMAINS)[number % len(DOMAINS)]
        key = f"machines/{number}"
        for sample in world.samples_of(key, world.scene(key, domain), Random(key), 2):
            paths = [folder / f"{number}-{index}.png" for index, _ in enumerate(sample.pictures)]
            for path, picture in zip(paths, sample.pictures, strict=True):
                picture.save(path)
            names = [path.name for path in paths]
            row = {"id": sample.id, "question": sample.question, "images": names, "choices": list(sample.choices)}
            lines.append(json.dumps(row))
    path = folder / "questions.jsonl"
    path.write_text("\n".join(lines))
    return path


def write_team(path: Path, url: str) -> None:
    """The pocket team with its clients, and the service in place of its server."""
    pocket = tomllib.loads(team_file().read_text())
    tables = [
        "[[clients]]\n" + _toml({**client, "model": str(team_file().parent / client["model"])})
        for client in pocket["clients"]
    ]
    server = {"backend": "colm", "base_url": url, "api_key_env": "TWO_MACHINES_KEY"}
    path.write_text(
        "\n".join([*tables, "[server]\n" + _toml(server), "[policy]\n" + _toml(pocket["policy"])]), encoding="utf-8"
    )


def _toml(table: Mapping[str, object]) -> str:
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())


@contextmanager
def serving(machine: Machine, folder: Path) -> Iterator[str]:
    """The pocket team with the keys of `folder`, and its log there."""
    serve = ["-m", "colm_vl.cli", "serve", "--host", machine.host, "--port", "0", "--keys", str(folder / "keys.toml")]
    command = [*machine.prefix, sys.executable, *serve]
    with (
        (folder / "service.log").open("w") as log,  # a pipe would be full after some hundred requests
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=_environment()) as process,
    ):
        try:
            yield read_address(process)
        finally:
            process.terminate()
            process.wait(60)


def batch(questions: Path, out: Path, *arguments: str, prefix: Sequence[str] = (), key: str = "") -> Sequence[Trace]:
    command = ["-m", "colm_vl.cli", "batch", str(questions), "--out", str(out), "--strategy", STRATEGIES, *arguments]
    done = subprocess.run(
        [*prefix, sys.executable, *command],
        capture_output=True,
        text=True,
        env=_environment(TWO_MACHINES_KEY=key),
    )
    assert done.returncode == 0, done.stderr
    traces = [Trace.from_dict(json.loads(line)) for line in (out / "traces.jsonl").read_text().splitlines()]
    return sorted(traces, key=lambda trace: (trace.id, trace.strategy))  # they are stored as they are finished


def _environment(**more: str) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1", **more}


@pytest.mark.timeout(3600)
def test_two_machines_answer_as_one_process_and_send_each_picture_once(tmp_path: Path) -> None:
    questions = write_questions(tmp_path)
    alone = batch(questions, tmp_path / "alone")
    key = keys.add(tmp_path / "keys.toml", "laptop", 1.0, QuotaTable())
    with two_machines() as machines, serving(machines.service, tmp_path) as url:
        write_team(tmp_path / "team.toml", url)
        team = ("--team", str(tmp_path / "team.toml"))
        apart = batch(questions, tmp_path / "apart", *team, prefix=machines.client.prefix, key=key)
    assert len(alone) == len(apart) == 2 * QUESTIONS
    for one, two in zip(alone, apart, strict=True):
        assert not two.failures
        assert (two.id, two.strategy) == (one.id, one.strategy)
        assert {draft.client: draft.text for draft in two.drafts} == {draft.client: draft.text for draft in one.drafts}
        assert [said.text for said in two.guidance] == [said.text for said in one.guidance]
        if one.verdict is not None:
            assert two.verdict is not None
            assert two.verdict.text == one.verdict.text
            # Other calls share its batch, which changes the last digits.
            assert two.verdict.confidence.value == pytest.approx(one.verdict.confidence.value, abs=1e-4)
        assert (two.answer, two.choice) == (one.answer, one.choice)
    pictures = {Image.open(path).digest for path in tmp_path.glob("*.png")}
    sent = [call.sent for trace in apart for call in trace.calls if call.member == "server" and not call.reused]
    assert sum(each.images for each in sent) == len(pictures)
    assert len(sent) > len(pictures)
