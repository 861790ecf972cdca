"""Metrics of the service, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from colm_vl.drift import DriftTest, is_audited, is_changed
from colm_vl.gates.calibrated import CalibratedGate
from colm_vl.service.accounting import Bill
from colm_vl.service.shared import Places
from colm_vl.team import Team

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300)


class Metrics:
    """Counts the requests of one service. Keys are labels by name; there are as many as the operator has made."""

    def __init__(self, places: Places, team: Team) -> None:
        registry = self.registry = CollectorRegistry()
        gauges = {
            "waiting": ("calls that wait for the server", lambda: places.waiting),
            "serving": ("calls that the server works on", lambda: places.serving),
            "places": ("calls that the server works on at most", lambda: places.places),
        }
        for name, (about, value) in gauges.items():
            Gauge(f"colm_vl_queue_{name}", about, registry=registry).set_function(value)

        def counter(name: str, about: str, *labels: str) -> Counter:
            return Counter(f"colm_vl_{name}", about, labels, registry=registry)

        def histogram(name: str, about: str, *labels: str) -> Histogram:
            return Histogram(f"colm_vl_{name}_seconds", about, labels, buckets=_SECONDS, registry=registry)

        self._requests = counter("requests", "requests", "key", "route", "status")
        self._seconds = histogram("request", "duration of a request", "route")
        self._first = histogram("first_token", "time to the first piece of a streamed reply", "route")
        self._waited = histogram("queue_wait", "time of a request in the queue of the server", "key")
        self._calls = counter("calls", "calls of models", "key", "member", "stage")
        self._failures = counter("call_failures", "failed calls of models", "member", "kind")
        self._tokens = counter("tokens", "tokens; cached ones are among the prompt's", "key", "member", "type")
        self._avoided = counter("avoided_server_calls", "calls of the server that a gate skipped", "key")
        self._bytes = counter("bytes", "bytes of bodies received and sent", "key", "direction")
        self._audited = counter("audited", "skipped questions for which the server was asked all the same")
        self._changed = counter("audited_changed", "audited questions whose answer the server changed")
        gate = team.policy.gate
        self._drift = DriftTest(gate.certificate.changed) if isinstance(gate, CalibratedGate) else None
        if self._drift is not None:
            drift = self._drift
            about = "1 if the certificate of the gate no longer holds, else 0"
            Gauge("colm_vl_gate_drift", about, registry=registry).set_function(lambda: float(drift.alarm))

    def served(self, bill: Bill) -> None:
        self._requests.labels(bill.caller, bill.route, str(bill.status)).inc()
        self._seconds.labels(bill.route).observe(bill.seconds)
        self._bytes.labels(bill.caller, "received").inc(bill.bytes_in)
        self._bytes.labels(bill.caller, "sent").inc(bill.bytes_out)
        if bill.first_token is not None:
            self._first.labels(bill.route).observe(bill.first_token)
        if not bill.traces:
            return
        self._waited.labels(bill.caller).observe(bill.waited)
        for call in bill.calls:
            self._calls.labels(bill.caller, call.member, call.stage).inc()
            usage = call.usage
            for kind, count in (
                ("prompt", usage.prompt_tokens),
                ("cached", usage.cached_tokens),
                ("completion", usage.completion_tokens),
            ):
                self._tokens.labels(bill.caller, call.member, kind).inc(count)
        for failure in bill.failures:
            self._failures.labels(failure.member or "", failure.kind).inc()
        self._avoided.labels(bill.caller).inc(bill.avoided)
        for trace in filter(is_audited, bill.traces):
            changed = is_changed(trace)
            self._audited.inc()
            self._changed.inc(changed)
            if self._drift is not None:
                self._drift.add(changed)
