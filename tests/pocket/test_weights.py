"""The weights in the package match the card and today's prompts, and can answer."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

import pytest

from colm_vl import Team
from colm_vl.pocket import team_file
from colm_vl.pocket.measure import measure
from colm_vl.pocket.roster import CLIENTS, MEMBERS
from colm_vl.pocket.scenes import DOMAINS
from colm_vl.pocket.world import split

POCKET = team_file().parent
WEIGHTS = POCKET / "weights"


@pytest.mark.parametrize("name", MEMBERS)
def test_the_model_card_describes_these_weights(name: str) -> None:
    card = (POCKET / "MODEL_CARD.md").read_text(encoding="utf-8")
    digest = hashlib.sha256((WEIGHTS / name / "model.safetensors").read_bytes()).hexdigest()
    assert digest in card, f"MODEL_CARD.md describes other weights of {name}; these are {digest}"


def test_the_prompts_are_those_of_training() -> None:
    trained_on = (WEIGHTS / "prompts.sha256").read_text(encoding="utf-8").strip()
    team = Team.pocket()
    assert {team.prompts_of(member).fingerprint for member in team.members} == {trained_on}, (
        "the profile has changed since the pocket team was trained: train it again"
    )


def test_the_weights_fit_into_the_package() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 40_000_000


def test_the_team_file_names_the_roster() -> None:
    team = tomllib.loads(team_file().read_text(encoding="utf-8"))
    assert {table["name"]: table["specialty"] for table in team["clients"]} == {c.name: c.specialty for c in CLIENTS}
    assert all(Path(POCKET / table["model"]).is_dir() for table in (*team["clients"], team["server"]))


def test_clients_know_their_specialty_and_guidance_helps() -> None:
    """The limits are well below the card's figures: this detects broken weights, not small losses."""
    sheet = measure(split("validation", 72))
    for client in CLIENTS:
        home = [sheet.accuracy(f"alone {client.name}", domain) for domain in DOMAINS if domain in client.home]
        assert sum(one.correct for one in home) / sum(one.total for one in home) > 0.75
    alone = sum(sheet.accuracy(f"alone {client.name}").value for client in CLIENTS) / len(CLIENTS)
    after = sum(sheet.accuracy(f"colm: {client.name}").value for client in CLIENTS) / len(CLIENTS)
    assert after > alone + 0.12
