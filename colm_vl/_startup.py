"""What the commands that keep running check before they start."""

from __future__ import annotations

from colm_vl.backends._http_options import Options as EndpointOptions
from colm_vl.team import Team


def check_keys(team: Team) -> None:
    """Raises `ConfigError` if the key of a member at an endpoint is missing: now, not at the first question."""
    for member in team.members:
        if isinstance(member.options, EndpointOptions):
            member.options.key()
