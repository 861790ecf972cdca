"""The files in deploy: what can be checked without Docker."""

from __future__ import annotations

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml
from typer.testing import CliRunner

from colm_vl import Team
from colm_vl._tables import validate
from colm_vl.batch.shards import Shard
from colm_vl.cli import app
from colm_vl.service.ray import Arguments
from tests.batch.runs import write_questions

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text("utf-8"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_runs_as_another_user_than_root_and_has_a_health_check() -> None:
    given = instructions()
    last = len(given) - 1 - [name for name, _ in reversed(given)].index("FROM")
    names = [name for name, _ in given[last:]]
    assert dict(given[last:])["USER"] == "10001"
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "HEALTHCHECK" in names


def test_what_the_image_copies_exists_and_is_not_ignored() -> None:
    allowed = {
        line.removeprefix("!") for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if "!" in line
    }
    copied = [shlex.split(rest)[:-1] for name, rest in instructions() if name == "COPY" and "--from" not in rest]
    for source in (source for sources in copied for source in sources):
        assert (ROOT / source).exists()
        assert source in allowed


def test_the_service_takes_the_command_of_the_image() -> None:
    given = dict(instructions())
    command = [*json.loads(given["ENTRYPOINT"]), *json.loads(given["CMD"])]
    assert command[:2] == ["colm-vl", "serve"]
    shown = CliRunner().invoke(app, ["serve", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    options = [option for option in command if option.startswith("--")]
    assert [option for option in options if option not in shown] == []


def test_compose_starts_the_image_beside_an_engine_that_the_team_names() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]
    build = services["service"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    assert services["service"]["depends_on"]["engine"]["condition"] == "service_healthy"
    team = Team.load(DEPLOY / "team.toml")
    served = services["engine"]["command"][services["engine"]["command"].index("--model") + 1]
    assert {member.options.model for member in team.members} == {served}
    assert {member.options.base_url for member in team.members} == {"http://engine:8000/v1"}  # type: ignore[attr-defined]


def test_the_slurm_array_answers_every_shard_and_joins_them_once(tmp_path: Path) -> None:
    """With stand-ins for Slurm's commands: `srun` runs its command, and `sbatch` notes its arguments."""
    write_questions(tmp_path, 20)
    member = 'backend = "scripted"\nmodel = "m"\nreplies = ["Answer: 5"]'
    (tmp_path / "team.toml").write_text(f'[[clients]]\nname = "near"\n{member}\n', "utf-8")
    for name, script in (
        ("srun", 'exec "$@"'),
        ("sbatch", 'printf "%s\\n" "$@" >> submitted'),
        ("colm-vl", f'exec "{sys.executable}" -m colm_vl.cli "$@"'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", "utf-8")
        (tmp_path / name).chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SHARDS": "3"}
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_JOB_ID": "77"}
    for index in (1, 2, 3):
        subprocess.run(
            ["bash", DEPLOY / "slurm-array.sh", "questions.jsonl", "runs/x", "--team", "team.toml", "-s", "vote"],
            env=os.environ | path | array | {"SLURM_ARRAY_TASK_ID": str(index)}, cwd=tmp_path, check=True,
        )  # fmt: skip
    submitted = (tmp_path / "submitted").read_text().splitlines()
    assert [line for line in submitted if line.startswith("--dependency")] == ["--dependency=afterany:77"]
    (merge,) = (line.removeprefix("--wrap=") for line in submitted if line.startswith("--wrap="))
    subprocess.run(["sh", "-c", merge], env=os.environ | path, cwd=tmp_path, check=True)
    assert len((tmp_path / "runs/x/answers.jsonl").read_text().splitlines()) == 20


def test_the_kubernetes_job_has_one_pod_for_each_shard() -> None:
    job = yaml.safe_load((DEPLOY / "kubernetes-job.yaml").read_text("utf-8"))
    spec = job["spec"]
    assert (job["apiVersion"], job["kind"], spec["completionMode"]) == ("batch/v1", "Job", "Indexed")
    (container,) = spec["template"]["spec"]["containers"]
    (command,) = container["args"]
    shards = []
    for index in range(spec["completions"]):
        shell = command.replace("exec colm-vl", "printf '%s\\n'")
        done = subprocess.run(
            ["sh", "-c", shell], env={"JOB_COMPLETION_INDEX": str(index)}, capture_output=True, text=True, check=True
        )
        words = done.stdout.split()
        shards.append(Shard.read(words[words.index("--shard") + 1]))
    assert shards == [Shard(index + 1, spec["completions"]) for index in range(spec["completions"])]
    shown = CliRunner().invoke(app, ["batch", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert [word for word in words if word.startswith("--") and word not in shown] == []


def test_ray_serve_takes_the_arguments_of_its_file() -> None:
    (application,) = yaml.safe_load((DEPLOY / "ray-serve.yaml").read_text("utf-8"))["applications"]
    module, _, name = application["import_path"].partition(":")
    assert hasattr(importlib.import_module(module), name)
    assert validate(Arguments, application["args"], "args").replicas == 3
