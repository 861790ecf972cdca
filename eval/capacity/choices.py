"""The gates that a run can be simulated with, by what they decide on the run's drafts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from colm_vl.gates import Gate
from colm_vl.gates.calibrated import CalibratedGate
from colm_vl.gates.certificate import Certificate
from colm_vl.gates.confidence import ConfidenceGate
from colm_vl.gates.disagreement import DisagreementGate
from colm_vl.types import Trace

from ..calibration.certify import read_calibration, read_certificate
from ..calibration.outcomes import outcomes
from ..client_answers import reply_of
from ..run_folder import Evaluation
from ..scoring.scorer import score
from ..types import Rule
from .measured import Measured

ALWAYS = "always"
AS_RUN = "as in the run"
CONFIDENCES = (0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class GateChoice:
    """`asked` tells for each measured question whether the gate asks the server. `accuracy` is that of the run's
    answers under these decisions, None without gold answers."""

    name: str
    asked: tuple[bool, ...]
    accuracy: float | None

    @property
    def share_asked(self) -> float:
        return sum(self.asked) / len(self.asked)


def gate_choices(evaluation: Evaluation, measured: Measured) -> list[GateChoice]:
    """Different gates, if the server was asked in every question, perhaps in shadow. Else only that of the run, since
    it is not known how long the server would have taken. Of gates that decide alike, there is only the first."""
    traces = measured.traces
    graded = any(evaluation.items[trace.id].gold for trace in traces)
    recorded = tuple(not trace.gates or (trace.gates[0].asked and not trace.gates[0].shadow) for trace in traces)
    if not all(trace.gates and trace.gates[0].asked for trace in traces):
        return [GateChoice(AS_RUN, recorded, _accuracy(evaluation, traces) if graded else None)]
    accuracy = _accuracy_of_decisions(evaluation, measured) if graded else lambda _: None
    decisions = {ALWAYS: (True,) * len(traces)}
    for name, gate in _gates(evaluation):
        decisions[name] = tuple(gate.decide({one.client: one for one in trace.drafts}).asked for trace in traces)
    if recorded != decisions[ALWAYS]:
        decisions[AS_RUN] = recorded
    different = {asked: name for name, asked in reversed(decisions.items())}
    return [GateChoice(name, asked, accuracy(asked)) for asked, name in reversed(different.items())]


def _gates(evaluation: Evaluation) -> Iterator[tuple[str, Gate]]:
    yield "disagreement", DisagreementGate()
    for value in CONFIDENCES:
        yield f"confidence={value}", ConfidenceGate(confidence=value)
    certificate = _certificate(evaluation)
    if certificate is not None:
        # Constructed without validation, which reads a file.
        gate = CalibratedGate.model_construct(calibrated="", sha256=certificate.digest, certificate=certificate)
        yield f"calibrated, risk {certificate.risk:.3g}", gate


def _certificate(evaluation: Evaluation) -> Certificate | None:
    calibration = read_calibration(evaluation.folder)
    return calibration.certificate if calibration else read_certificate(evaluation.folder)


def _accuracy(evaluation: Evaluation, traces: Sequence[Trace]) -> float:
    replies = {trace.id: reply_of(trace) for trace in traces}
    items = list(evaluation.items.values())
    return score(evaluation.benchmark, items, replies, Rule.STRICT, partial=True).overall.accuracy


def _accuracy_of_decisions(evaluation: Evaluation, measured: Measured) -> Callable[[Sequence[bool]], float | None]:
    """The accuracy if the server is asked only in some questions."""
    found = {one.id: one for one in outcomes(evaluation, measured.strategy, Rule.STRICT).items}
    ids = [trace.id for trace in measured.traces]

    def accuracy(asked: Sequence[bool]) -> float | None:
        correct = [
            found[key].asked_correct if ask else found[key].skipped_correct
            for key, ask in zip(ids, asked, strict=True)
            if key in found
        ]
        return sum(correct) / len(correct) if correct else None

    return accuracy
