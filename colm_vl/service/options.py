"""What a request may change of the team's policy, within what the operator allows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from colm_vl import gates, strategies
from colm_vl.errors import ConfigError
from colm_vl.service.errors import refused
from colm_vl.service.settings import Settings
from colm_vl.strategies import Choice
from colm_vl.team import Policy, Team
from colm_vl.types import MAX_CHOICES, Share

_SHARES: tuple[Share, ...] = get_args(Share)
"""From all to nothing."""
_ANSWERING = ("draft", "refine", "verdict")
FEWEST_TOKENS = 256
"""A smaller limit is raised to this: a reply has a description and a confidence beside the answer."""


class ColmOptions(BaseModel):
    """The field `colm` of a request. Policies that are left out are those of the service's team."""

    model_config = ConfigDict(extra="forbid")

    trace: bool = Field(default=False, description="whether to return the record of the question")
    choices: Annotated[list[str], Field(max_length=MAX_CHOICES)] = Field(
        default_factory=list, description="the choices of a multiple-choice question: none, or 2 to 26"
    )
    rounds: int | None = None
    top_k: int | None = None
    select: Literal["server", "specialty"] | None = None
    gate: str | dict[str, float] | None = None
    share: Share | None = None
    settle: Literal["asker", "vote"] | None = None
    asker: str | None = None
    blind: bool | None = None
    reason: bool | None = None
    samples: int | None = None

    @property
    def policies(self) -> dict[str, Any]:
        return self.model_dump(exclude_none=True, exclude={"trace", "choices"})


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """Fields of OpenAI's API. They apply to the replies from which answers are read."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None


def chosen(team: Team, model: str, options: ColmOptions, sampling: SamplingOptions, settings: Settings) -> Choice:
    """The strategy `model` with the request's policies. Raises `ApiError` (400) if one is not allowed or not valid."""
    changes = options.policies
    for name, value in changes.items():
        _check_allowed(name, value, team.policy, settings)
    changes |= _sampling(team.policy, sampling, settings.limits.tokens)
    try:
        return strategies.choose(team.with_policy(**changes) if changes else team, model)
    except ConfigError as error:
        raise refused(str(error), hint=error.hint, param="colm", code=error.kind) from None


def _check_allowed(name: str, value: Any, policy: Policy, settings: Settings) -> None:
    param = f"colm.{name}"
    if name not in settings.policies:
        allowed = ", ".join(settings.policies) or "none"
        raise refused(f"{param} cannot be set for a request", hint=f"allowed: {allowed}", param=param)
    if name == "gate" and gates.reads_files(value):
        raise refused(f"{param} names a file, which only the operator can do", param=param)
    most = {"rounds": settings.limits.rounds, "samples": settings.limits.samples}.get(name)
    if most is not None and value > most:
        raise refused(f"{param} is {value}; at most {most} are allowed", param=param)
    if name == "share" and _SHARES.index(value) < _SHARES.index(policy.share):
        less = ", ".join(_SHARES[_SHARES.index(policy.share) :])
        raise refused(f"{param} is {value}, which is more than the team shares", hint=f"allowed: {less}", param=param)


def _sampling(policy: Policy, wanted: SamplingOptions, most: int) -> dict[str, Any]:
    given: Mapping[str, Any] = {
        "max_tokens": wanted.max_tokens and min(max(wanted.max_tokens, FEWEST_TOKENS), most),
        "temperature": wanted.temperature,
        "top_p": wanted.top_p,
    }
    own = {name: value for name, value in given.items() if value is not None}
    changes: dict[str, Any] = {}
    if own:
        table = policy.sampling
        stages = {stage: getattr(table, stage) or table.guide for stage in _ANSWERING}
        changes["sampling"] = {stage: {**current.model_dump(), **own} for stage, current in stages.items()}
    if wanted.seed is not None:
        changes["seed"] = wanted.seed
    elif wanted.temperature:
        changes["seed"] = secrets.randbits(31)  # a policy has always a seed; callers expect different replies
    return changes
