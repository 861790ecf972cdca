"""Skip the server if a certificate limits the accuracy that this loses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationInfo, model_validator
from typing_extensions import override

from colm_vl.errors import ConfigError
from colm_vl.gates.base import Gate
from colm_vl.gates.certificate import Certificate, signals
from colm_vl.types import ClientReply, Decision, MemberInfo


class CalibratedGate(Gate):
    """Skips the server if the score of the drafts reaches the threshold of the certificate in the file `calibrated`.

    If the members, their prompts or the policy are not those with which it was calibrated, it is void and the server is
    always asked. `sha256` can be set to accept only one certificate.
    """

    reads_files = True

    calibrated: str
    sha256: str = ""
    certificate: Certificate = Field(exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _read_file(cls, data: Any, info: ValidationInfo) -> Any:
        name = data.get("calibrated")
        if not isinstance(name, str) or "certificate" in data:
            return {key: value for key, value in data.items() if key != "certificate"}
        try:
            certificate = Certificate.read((info.context or Path()) / name, Path(name).name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        if data.get("sha256", certificate.digest) != certificate.digest:
            raise ValueError(f"{Path(name).name} is another certificate than the one of sha256 {data['sha256']!r}")
        return {**data, "sha256": certificate.digest, "certificate": certificate}

    @override
    def void_for(self, members: Sequence[MemberInfo], policy: BaseModel) -> str:
        reason = self.certificate.void_for(members, policy)
        return f"the certificate is void: {reason}; calibrate again" if reason else ""

    @override
    def decide(self, replies: Mapping[str, ClientReply]) -> Decision:
        certificate = self.certificate
        found = signals(replies, certificate.source)
        if found is None:
            return Decision(True, f"no answer is readable, or a confidence is not of the kind {certificate.source!r}")
        score = certificate.scorer.score(found)
        compared = "reaches" if score >= certificate.threshold else "is below"
        reason = f"score {score:.4f} {compared} {certificate.threshold:.4f} ({certificate.promise})"
        return Decision(score < certificate.threshold, reason, certificate=self.sha256)


GATE = CalibratedGate
