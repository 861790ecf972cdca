"""The members of the pocket team: names, specialties, architectures and sizes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from colm_vl.pocket.scenes import DOMAINS

Architecture = Literal["qwen2_5_vl", "llava"]


@dataclass(frozen=True, slots=True)
class Member:
    """One model of the team. `width` and `layers` are those of its text model, `sight_width` and `sight_layers` those
    of its vision tower. `patch` is the side of a patch in pixels. `domain_weights` is the weight of each domain in its
    training."""

    name: str
    architecture: Architecture
    specialty: str
    home: tuple[str, ...]
    domain_weights: Mapping[str, float]
    width: int = 128
    layers: int = 4
    sight_width: int = 160
    sight_layers: int = 4
    patch: int = 14


def _domain_weights(home: Mapping[str, float], elsewhere: float) -> Mapping[str, float]:
    """The weights of the member's own domains, and a small weight for all others."""
    return MappingProxyType({domain: home.get(domain, elsewhere) for domain in DOMAINS})


CLIENTS: tuple[Member, ...] = (
    Member(
        "shapes",
        "qwen2_5_vl",
        "coloured shapes and counting them",
        ("shapes", "counting"),
        _domain_weights({"shapes": 4, "counting": 4}, 0.3),
    ),
    Member(
        "charts",
        "qwen2_5_vl",
        "bar charts and comparing two pictures",
        ("charts", "pairs"),
        _domain_weights({"charts": 4, "pairs": 4}, 0.3),
    ),
    Member(
        "digits",
        "llava",
        "written digits and small sums",
        ("digits", "text"),
        _domain_weights({"digits": 5, "text": 4}, 0.2),
        patch=42,  # so that a written digit is one token, which a model this small can learn to read
    ),
)
SERVER = Member(
    "server",
    "qwen2_5_vl",
    "",
    (),
    _domain_weights({"digits": 1.5, "shapes": 1.2, "text": 0.5}, 1.0),
    layers=6,
)
MEMBERS: Mapping[str, Member] = MappingProxyType({member.name: member for member in (*CLIENTS, SERVER)})
