"""The section on skipping the server: the guarantee of a calibration, and whether it still holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from colm_vl.drift import DriftTest, is_audited, is_changed
from colm_vl.gates.certificate import Certificate
from colm_vl.types import Trace

from ..calibration.certify import Calibration, read_calibration, read_certificate
from ..run_folder import Evaluation
from .document import Part, Plot, Text
from .plots import skipping_plot


@dataclass(frozen=True, slots=True)
class GateUse:
    """How a strategy used a calibrated gate. `drift` is None if no question was audited."""

    strategy: str
    questions: int
    skipped: int
    drift: DriftTest | None


@dataclass(frozen=True, slots=True)
class Skipping:
    """`calibration` was made on this run; `uses` are of a gate calibrated on another one, with this `certificate`."""

    calibration: Calibration | None
    certificate: Certificate | None
    uses: tuple[GateUse, ...]

    def __bool__(self) -> bool:
        return self.calibration is not None or bool(self.uses)


def skipping(evaluation: Evaluation) -> Skipping:
    certificate = read_certificate(evaluation.folder)
    uses = tuple(_uses(evaluation.traces, certificate)) if certificate else ()
    return Skipping(read_calibration(evaluation.folder), certificate, uses)


def skipping_parts(found: Skipping, file: str) -> Iterator[Part]:
    if found.calibration is not None:
        certificate = found.calibration.certificate
        yield Text(
            f"A gate was calibrated on this run: {certificate.promise}. Tested on {certificate.items} questions: the "
            f"server is skipped in {certificate.skipped:.1%} of them, with harm to {certificate.harms}."
        )
        plot = skipping_plot(found.calibration)
        yield Plot(file, plot, "Accuracy against the share of questions in which the server is skipped")
    for use in found.uses:
        assert found.certificate is not None
        text = (
            f"{use.strategy} used a gate calibrated on {found.certificate.run} ({found.certificate.promise}): it "
            f"skipped the server in {use.skipped} of {use.questions} questions."
        )
        yield Text(text + " " + _drift(use.drift))


def _drift(drift: DriftTest | None) -> str:
    if drift is None:
        return "No skipped question was audited (`audit`), so it is not known whether the guarantee still holds."
    told = (
        f"Of {drift.audited} audited questions, {drift.changed} changed their answer "
        f"(expected: at most {drift.limit:.1%}): "
    )
    if drift.alarm:
        return told + "the guarantee no longer holds; calibrate again on questions like these."
    return told + "no sign of drift."


def _uses(traces: Mapping[str, Sequence[Trace]], certificate: Certificate) -> Iterator[GateUse]:
    for strategy, of_strategy in traces.items():
        gated = [trace for trace in of_strategy if trace.gates and trace.gates[0].certificate == certificate.digest]
        if not gated:
            continue
        audited = [trace for trace in gated if is_audited(trace)]
        drift = DriftTest(certificate.changed) if audited else None
        if drift is not None:
            for trace in audited:
                drift.add(is_changed(trace))
        yield GateUse(strategy, len(gated), sum(not trace.gates[0].asked for trace in gated), drift)
