"""The ways to answer a question that the ablations network and load compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ALONE = "server alone"


@dataclass(frozen=True, slots=True)
class Setup:
    strategy: str
    policy: Mapping[str, Any] = field(default_factory=dict)
