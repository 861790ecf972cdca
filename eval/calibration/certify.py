"""Fits the score on one half of a run, tests thresholds on the other, and makes the certificate."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from colm_vl.batch.folder import RUN
from colm_vl.batch.lines import replace_file
from colm_vl.errors import InputError
from colm_vl.extras import require
from colm_vl.gates import Gate
from colm_vl.gates.calibrated import CalibratedGate
from colm_vl.gates.certificate import SIGNALS, Certificate, CertifiedMember, Scorer, certified_policy
from colm_vl.types import MemberInfo

from ..run_folder import Evaluation
from ..types import Rule
from .outcomes import Outcome, by_group, outcomes
from .thresholds import Tested, items_needed, passing, sequence, upper_bound

CALIBRATION = "calibration.json"
CERTIFICATE = "certificate.json"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The tested half at one threshold: the share of questions that are skipped, and the accuracy that remains."""

    threshold: float
    skipped: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """`asked_accuracy` and `skipped_accuracy` are of the tested half, if the server is always and never asked."""

    certificate: Certificate
    curve: tuple[CurvePoint, ...]
    asked_accuracy: float
    skipped_accuracy: float
    left_out: int

    def curve_at(self, threshold: float) -> float:
        """The accuracy at a threshold that was tested."""
        return next(point.accuracy for point in self.curve if point.threshold == threshold)


@dataclass(frozen=True, slots=True)
class Promise:
    """The guarantee to certify, for all questions or for each group of each of the columns `groups`."""

    risk: float = 0.02
    confidence: float = 0.95
    groups: Sequence[str] = ()


def calibrate(
    evaluation: Evaluation, promise: Promise, *, strategy: str = "colm", rule: Rule = Rule.STRICT
) -> Calibration:
    """Raises `InputError` if the run cannot be used, or is too small for this guarantee."""
    if (rounds := _policy(evaluation).get("rounds", 1)) > 1:
        raise InputError(
            f"the run had {rounds} rounds: a gate is calibrated for the first, and would also decide the others",
            hint="run it again with --set rounds=1",
        )
    found = outcomes(evaluation, strategy, rule)
    fitting, testing = _halves(found.items)
    needed = items_needed(promise.risk, 1 - promise.confidence)
    _check_size(testing, promise, needed)
    scorer = _fit(fitting)
    thresholds = sequence([_score(scorer, item) for item in fitting if item.signals is not None])
    chosen = _test(scorer, thresholds, testing, promise)
    scores = [_score(scorer, item) for item in testing]
    skipped = [item for item, score in zip(testing, scores, strict=True) if score >= chosen.threshold]
    certificate = Certificate(
        risk=promise.risk,
        confidence=promise.confidence,
        threshold=chosen.threshold,
        items=len(testing),
        harms=chosen.harms,
        skipped=len(skipped) / len(testing),
        changed=upper_bound(sum(item.changed for item in skipped), len(skipped), 1 - promise.confidence),
        fitted_items=len(fitting),
        run=f"{evaluation.benchmark.name}, split {evaluation.split}",
        strategy=strategy,
        groups={column: tuple(by_group(testing, column)) for column in promise.groups},
        source=found.source,
        members=_members(evaluation, strategy),
        policy=_policy(evaluation),
        scorer=scorer,
    )
    return Calibration(
        certificate,
        tuple(_point(testing, scores, threshold) for threshold in thresholds),
        _share([item.asked_correct for item in testing]),
        _share([item.skipped_correct for item in testing]),
        found.left_out,
    )


def write_calibration(calibration: Calibration, out: Path, run: Path) -> None:
    """Write the certificate, and what the report of the run shows of it."""
    out.parent.mkdir(parents=True, exist_ok=True)
    replace_file(out, [calibration.certificate.as_json().encode() + b"\n"])
    record: dict[str, Any] = asdict(calibration) | {"certificate": calibration.certificate.model_dump(mode="json")}
    replace_file(run / CALIBRATION, [json.dumps(record, indent=1).encode() + b"\n"])


def read_calibration(run: Path) -> Calibration | None:
    path = run / CALIBRATION
    if not path.exists():
        return None
    record = json.loads(path.read_text("utf-8"))
    return Calibration(
        Certificate.model_validate(record["certificate"]),
        tuple(CurvePoint(**point) for point in record["curve"]),
        record["asked_accuracy"],
        record["skipped_accuracy"],
        record["left_out"],
    )


def write_certificate(gate: Gate, run: Path) -> None:
    """Keep the certificate of a calibrated gate with the run that uses it."""
    if isinstance(gate, CalibratedGate):
        replace_file(run / CERTIFICATE, [gate.certificate.as_json().encode() + b"\n"])


def read_certificate(run: Path) -> Certificate | None:
    return Certificate.read(run / CERTIFICATE, CERTIFICATE) if (run / CERTIFICATE).exists() else None


# --- steps ---


def _halves(items: Sequence[Outcome]) -> tuple[Sequence[Outcome], Sequence[Outcome]]:
    """Drawn by id, so that the order of the file does not matter."""
    drawn = sorted(items, key=lambda item: hashlib.sha256(item.id.encode()).digest())
    return drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :]


def _check_size(testing: Sequence[Outcome], promise: Promise, needed: int) -> None:
    if len(testing) < needed:
        raise InputError(
            f"cannot certify {100 * promise.risk:.3g} % with {len(testing)} questions for testing, even without harm; "
            f"{needed} are needed",
            hint=f"half of a run is used for testing: give a run of at least {2 * needed} questions, or raise --risk",
        )


def _fit(items: Sequence[Outcome]) -> Scorer:
    """A logistic regression for "the drafts settle on a correct answer"."""
    numpy = require("numpy", "eval")
    linear_model = require("sklearn.linear_model", "eval")
    usable = [item for item in items if item.signals is not None]
    values = numpy.array([[signal[name] for name in SIGNALS] for item in usable if (signal := item.signals)])
    correct = numpy.array([item.skipped_correct for item in usable])
    if len(set(correct.tolist())) < 2:
        which = "correct" if usable and usable[0].skipped_correct else "wrong"
        raise InputError(
            f"the drafts of all {len(usable)} questions for fitting are {which}",
            hint="give a run with more questions, or with harder ones",
        )
    means, scales = values.mean(axis=0), values.std(axis=0)
    scales[scales == 0] = 1.0
    model = linear_model.LogisticRegression(max_iter=1000).fit((values - means) / scales, correct)
    return Scorer(
        signals=SIGNALS,
        means=tuple(map(float, means)),
        scales=tuple(map(float, scales)),
        weights=tuple(map(float, model.coef_[0])),
        bias=float(model.intercept_[0]),
    )


def _test(scorer: Scorer, thresholds: Sequence[float], testing: Sequence[Outcome], promise: Promise) -> Tested:
    """The lowest threshold that passes for all questions, or for each group. With G groups, each is tested at a G-th of
    the error probability (Bonferroni), so that the guarantee holds for all of them together."""
    delta = 1 - promise.confidence
    parts = [
        (f"{column} {name!r}", items) for column in promise.groups for name, items in by_group(testing, column).items()
    ] or [("", testing)]
    needed = items_needed(promise.risk, delta / len(parts))
    found = []
    for name, items in parts:
        if len(items) < needed:
            raise InputError(
                f"cannot certify {100 * promise.risk:.3g} % for {name} with {len(items)} questions for testing; "
                f"{needed} are needed, since {len(parts)} groups are tested",
                hint="leave the group column out, or give a larger run",
            )
        passed = passing(
            thresholds, [_score(scorer, item) for item in items], [item.harm for item in items],
            promise.risk, delta / len(parts),
        )  # fmt: skip
        if not passed:
            of = f" for {name}" if name else ""
            raise InputError(
                f"no threshold passes{of}: even the most cautious one may lose more than {promise.risk:.3g}",
                hint="raise --risk, or give a larger run",
            )
        found.append(passed[-1])
    threshold = max(one.threshold for one in found)
    scores = [_score(scorer, item) for item in testing]
    skipped = [item for item, score in zip(testing, scores, strict=True) if score >= threshold]
    return Tested(threshold, len(skipped), sum(item.harm for item in skipped), max(one.p for one in found))


def _score(scorer: Scorer, item: Outcome) -> float:
    return scorer.score(item.signals) if item.signals is not None else float("-inf")


def _point(items: Sequence[Outcome], scores: Sequence[float], threshold: float) -> CurvePoint:
    skipped = [score >= threshold for score in scores]
    correct = [item.skipped_correct if skip else item.asked_correct for item, skip in zip(items, skipped, strict=True)]
    return CurvePoint(threshold, _share(skipped), _share(correct))


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values) if values else 0.0


def _members(evaluation: Evaluation, strategy: str) -> tuple[CertifiedMember, ...]:
    teams: dict[tuple[MemberInfo, ...], None] = {}
    for trace in evaluation.traces[strategy]:
        teams[trace.members] = None
    if len(teams) > 1:
        raise InputError(
            f"{evaluation.label}: its answers come from teams with different members, models or prompts",
            hint="run it again with one team, in another folder",
        )
    (members,) = teams
    if not all(member.fingerprint for member in members):
        raise InputError(
            f"{evaluation.label}: the run is of an earlier version, which did not record the members' settings",
            hint="run it again in another folder",
        )
    return tuple(map(CertifiedMember.of, members))


def _policy(evaluation: Evaluation) -> Mapping[str, Any]:
    record = json.loads((evaluation.folder / RUN).read_bytes())
    return certified_policy(record["settings"]["policy"])
