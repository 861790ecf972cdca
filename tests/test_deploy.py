"""The files in deploy: what can be checked without Docker."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import yaml
from typer.testing import CliRunner

from colm_vl import Team
from colm_vl.cli import app

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
