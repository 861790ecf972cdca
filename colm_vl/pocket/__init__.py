"""The pocket team: four tiny trained models that know a small world of drawn pictures, and come with the package.

Nothing in this folder imports torch or transformers. `training/`, which does, stays in the repository: the wheel leaves
it out.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["NOTE", "team_file"]

NOTE = (
    "The pocket team is four tiny models that know only drawn shapes, counts, bar charts, written digits and small "
    "sums. For anything else, name real models in a team file and pass it with --team."
)
"""What to tell a user where the pocket team answers."""


def team_file() -> Path:
    """The team file that answers when no other is given."""
    return Path(__file__).parent / "team.toml"
