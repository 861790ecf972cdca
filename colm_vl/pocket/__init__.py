"""The pocket team: four tiny trained models that understand a small world of drawn pictures. Part of the package.

Nothing in this folder imports torch or transformers, except `training/`, which is not part of the wheel.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["NOTE", "team_file"]

NOTE = (
    "The pocket team answers: tiny models that only understand a small world of drawn pictures. "
    "For your own pictures, pass a team file with real models (--team team.toml)."
)
"""A note for users to whom the pocket team answers."""


def team_file() -> Path:
    """The team file of the pocket team, which is used if no other is given."""
    return Path(__file__).parent / "team.toml"
