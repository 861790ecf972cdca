"""Certificates of calibrated gates: what is guaranteed, for which team, and how drafts are scored.

`colm-vl eval calibrate` writes them and `calibrated.py` uses them. A question is skipped if the score of its drafts
reaches the threshold.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, FiniteFloat, model_validator

from colm_vl._tables import Table, validate
from colm_vl.answers import is_answer, normalize, same_reply
from colm_vl.errors import ConfigError
from colm_vl.types import ClientReply, MemberInfo

Source = Literal["logprobs", "stated", "unknown"]

Signal = Literal["agreement", "margin", "least_confidence", "mean_confidence", "dissent", "words"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)

_FREE = frozenset(
    {
        *("gate", "audit", "shadow"),  # what the certificate is for
        *("timeouts", "max_loaded", "prefetch"),  # the answers do not depend on them
        *("strategy", "samples", "layers"),  # of strategies without a gate
        *("prompts", "seed"),  # prompts are compared by member; other seeds give replies of the same distribution
    }
)
"""Fields of a policy that may change while a certificate holds."""


class Scorer(Table):
    """A logistic regression over standardized signals, with one mean, scale and weight for each."""

    signals: tuple[Signal, ...]
    means: tuple[FiniteFloat, ...]
    scales: tuple[Annotated[FiniteFloat, Field(gt=0)], ...]
    weights: tuple[FiniteFloat, ...]
    bias: FiniteFloat

    @model_validator(mode="after")
    def _of_one_length(self) -> Scorer:
        if not len(self.signals) == len(self.means) == len(self.scales) == len(self.weights):
            raise ValueError("signals, means, scales and weights differ in number")
        return self

    def score(self, signals: Mapping[str, float]) -> float:
        """The estimated probability, from 0 to 1, that the drafts settle on a correct answer."""
        values = (
            weight * (signals[name] - mean) / scale
            for name, mean, scale, weight in zip(self.signals, self.means, self.scales, self.weights, strict=True)
        )
        total = max(-700.0, min(700.0, self.bias + sum(values)))
        return 1 / (1 + math.exp(-total))


class CertifiedMember(Table):
    """What must be unchanged for a certificate to hold: a member, its settings and its prompts."""

    name: str
    role: str
    model: str
    fingerprint: str
    prompts: str
    prompts_fingerprint: str

    @classmethod
    def of(cls, info: MemberInfo) -> CertifiedMember:
        return cls(
            name=info.name,
            role=info.role,
            model=info.model,
            fingerprint=info.fingerprint,
            prompts=info.prompts,
            prompts_fingerprint=info.prompts_fingerprint,
        )


class Certificate(Table):
    """With probability at least `confidence`, skipping loses the accuracy of at most the share `risk` of all questions.

    It was tested on `items` questions of a run, of which the share `skipped` was skipped, `harms` of them with a
    wrong answer in place of a correct one; `changed` is an upper bound, with the same confidence, of the share of
    skipped questions whose answer the server would have changed. The certificate holds for questions like those of
    the run.
    """

    format: Literal[1] = 1
    risk: float = Field(gt=0, lt=1)
    confidence: float = Field(gt=0, lt=1)
    threshold: FiniteFloat
    items: int
    harms: int
    skipped: float
    changed: float
    fitted_items: int
    run: str
    strategy: str
    groups: Mapping[str, Sequence[str]] = Field(default_factory=dict)
    source: Source
    members: tuple[CertifiedMember, ...]
    policy: Mapping[str, Any] = Field(default_factory=dict)
    scorer: Scorer

    @classmethod
    def read(cls, file: Path, name: str) -> Certificate:
        """Raises `ConfigError` if the file is missing or is not a certificate."""
        try:
            data = json.loads(file.read_text("utf-8"))
        except OSError as error:
            hint = "write one with `colm-vl eval calibrate`"
            raise ConfigError(f"{name}: cannot be read ({error.strerror})", hint=hint) from None
        except ValueError:
            raise ConfigError(f"{name}: not JSON", hint="write one with `colm-vl eval calibrate`") from None
        if not isinstance(data, dict):
            raise ConfigError(f"{name}: not a certificate", hint="write one with `colm-vl eval calibrate`")
        return validate(cls, data, name)

    @property
    def digest(self) -> str:
        """SHA-256, hex, of its content."""
        return hashlib.sha256(self.as_json().encode()).hexdigest()

    @property
    def promise(self) -> str:
        return f"at most {self.risk:.1%} of accuracy lost, with {self.confidence:.0%} confidence".replace("%", " %")

    def as_json(self) -> str:
        without = None if self.policy else {"policy"}  # keeps the digests of earlier certificates
        return json.dumps(self.model_dump(mode="json", exclude=without), indent=1)

    def void_for(self, members: Sequence[MemberInfo], policy: BaseModel) -> str:
        """Why it does not hold for a team of these members under this policy, or "" if it does."""
        return self._void_for_members(members) or self._void_for_policy(policy)

    def _void_for_policy(self, policy: BaseModel) -> str:
        now = certified_policy(policy.model_dump(mode="json"))
        if not self.policy or now == self.policy:  # certificates of earlier versions have no policy
            return ""
        # Fields that a version added after the certificate had their defaults then.
        then = {**certified_policy(type(policy)().model_dump(mode="json")), **self.policy}
        changed = [name for name, value in now.items() if value != then[name]]
        return f"the policy {', '.join(changed)} changed since it was calibrated" if changed else ""

    def _void_for_members(self, members: Sequence[MemberInfo]) -> str:
        now, then = ({one.name: one for one in team} for team in (map(CertifiedMember.of, members), self.members))
        if now.keys() != then.keys():
            return f"it was calibrated with the members {', '.join(then)}"
        changed = [name for name, member in now.items() if member != then[name]]
        if not changed:
            return ""
        prompts = all(
            now[name].model_copy(update={"prompts": "", "prompts_fingerprint": ""})
            == then[name].model_copy(update={"prompts": "", "prompts_fingerprint": ""})
            for name in changed
        )
        what = "prompts" if prompts else "model or settings"
        return f"the {what} of {', '.join(changed)} changed since it was calibrated"


def certified_policy(policy: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a policy, as plain JSON, that must be unchanged for a certificate to hold."""
    return {name: value for name, value in policy.items() if name not in _FREE}


def signals(replies: Mapping[str, ClientReply], source: Source) -> Mapping[str, float] | None:
    """Features of the drafts, to predict whether they are correct. Only answers count, not abstentions. None if there
    is no answer or a confidence is not of the certificate's source.

    `agreement`: share of the clients that give the most frequent answer. `margin`: its lead over the next answer, as a
    share. `least_confidence`, `mean_confidence`: of the clients that give it. `dissent`: the greatest confidence of the
    others, 0 if there are none. `words`: logarithm of the number of words of the answer.
    """
    readable = [reply for reply in replies.values() if is_answer(reply)]
    if not readable or any(reply.confidence.source != source for reply in readable):
        return None
    groups: list[list[ClientReply]] = []
    for reply in readable:
        group = next((group for group in groups if same_reply(group[0], reply)), None)
        if group is None:
            groups.append([reply])
        else:
            group.append(reply)
    most, *others = sorted(groups, key=lambda group: (-len(group), -_confidence(group)))
    lead = len(most) - (len(others[0]) if others else 0)
    confident = [reply.confidence.value or 0.0 for reply in most]
    against = [reply.confidence.value or 0.0 for group in others for reply in group]
    return {
        "agreement": len(most) / len(replies),
        "margin": lead / len(replies),
        "least_confidence": min(confident),
        "mean_confidence": sum(confident) / len(confident),
        "dissent": max(against, default=0.0),
        "words": math.log1p(len(normalize(most[0].answer).split())),
    }


def source_of(replies: Sequence[ClientReply]) -> Source:
    """The most frequent source of the confidences."""
    counted = Counter(reply.confidence.source for reply in replies)
    return counted.most_common(1)[0][0] if counted else "unknown"


def _confidence(group: Sequence[ClientReply]) -> float:
    return sum(reply.confidence.value or 0.0 for reply in group)
