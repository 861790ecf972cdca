"""OpenTelemetry spans of requests, stages and calls, if the environment names a collector.

Spans are made when a request is over, from the times in its traces, so that telemetry adds nothing to a request. They
contain no questions, answers or pictures. Attributes follow the semantic conventions for HTTP and for generative AI.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from colm_vl.extras import require
from colm_vl.service.accounting import Bill, Charge
from colm_vl.types import Call, Stage

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_BILLION: Final = 1_000_000_000


def configured() -> Telemetry | None:
    """Telemetry as the standard environment variables say: to the OTLP endpoint over HTTP, or None without one.

    Raises `MissingPackage` if the extra `otel` is not installed.
    """
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    if disabled or not any(os.environ.get(name) for name in _VARIABLES):
        return None
    otlp = require("opentelemetry.exporter.otlp.proto.http.trace_exporter", "otel")
    return Telemetry(otlp.OTLPSpanExporter())


class Telemetry:
    """Exports spans in the background. `close` sends what is left."""

    def __init__(self, exporter: SpanExporter) -> None:
        resources = require("opentelemetry.sdk.resources", "otel")
        sdk = require("opentelemetry.sdk.trace", "otel")
        export = require("opentelemetry.sdk.trace.export", "otel")
        name = os.environ.get("OTEL_SERVICE_NAME", "colm-vl")
        self._provider = sdk.TracerProvider(resource=resources.Resource.create({"service.name": name}))
        self._provider.add_span_processor(export.BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("colm_vl")
        self._propagator = require(
            "opentelemetry.trace.propagation.tracecontext", "otel"
        ).TraceContextTextMapPropagator()
        self._api = require("opentelemetry.trace", "otel")

    def served(self, bill: Bill) -> None:
        kinds = self._api.SpanKind
        parent = self._propagator.extract({"traceparent": bill.traceparent}) if bill.traceparent else None
        attributes = {
            "http.request.method": bill.method,
            "http.route": bill.route,
            "http.response.status_code": bill.status,
            "colm_vl.key": bill.caller,
            "colm_vl.queue.wait": bill.waited,
            "colm_vl.avoided_server_calls": bill.avoided,
        }
        span = self._span(f"{bill.method} {bill.route}", bill.at, parent, kinds.SERVER, attributes)
        if bill.status >= 500:
            span.set_status(self._api.StatusCode.ERROR)
        inside = self._api.set_span_in_context(span)
        for charge in bill.charges:
            self._question(charge, inside)
        span.end(_nanoseconds(bill.at + bill.seconds))

    def close(self) -> None:
        self._provider.shutdown()

    def _question(self, charge: Charge, parent: Context) -> None:
        trace, internal = charge.trace, self._api.SpanKind.INTERNAL
        stages: dict[tuple[Stage, int], list[Call]] = {}
        for call in trace.calls:
            if not call.reused:
                stages.setdefault((call.stage, call.round), []).append(call)
        models = {member.name: member.model for member in trace.members}
        for (stage, round), calls in stages.items():
            begun = charge.at + min(call.started for call in calls)
            span = self._span(
                stage, begun, parent, internal, {"colm_vl.strategy": trace.strategy, "colm_vl.round": round}
            )
            inside = self._api.set_span_in_context(span)
            for call in calls:
                self._call(call, charge.at, models.get(call.member, call.member), inside)
            span.end(_nanoseconds(charge.at + max(call.started + call.seconds for call in calls)))
        for failure in trace.failures:
            failed = {
                "error.type": failure.kind,
                "colm_vl.member": failure.member or "",
                "colm_vl.stage": failure.stage,
            }
            span = self._span(f"failed {failure.stage}", charge.at + trace.seconds, parent, internal, failed)
            span.set_status(self._api.StatusCode.ERROR)
            span.end(_nanoseconds(charge.at + trace.seconds))

    def _call(self, call: Call, at: float, model: str, parent: Context) -> None:
        attributes = {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": model,
            "gen_ai.usage.input_tokens": call.usage.prompt_tokens,
            "gen_ai.usage.cache_read.input_tokens": call.usage.cached_tokens,
            "gen_ai.usage.output_tokens": call.usage.completion_tokens,
            "colm_vl.member": call.member,
            "colm_vl.attempts": call.attempts,
        }
        span = self._span(f"chat {model}", at + call.started, parent, self._api.SpanKind.CLIENT, attributes)
        span.end(_nanoseconds(at + call.started + call.seconds))

    def _span(self, name: str, at: float, parent: Context | None, kind: Any, attributes: Mapping[str, Any]) -> Span:
        span: Span = self._tracer.start_span(
            name, context=parent, kind=kind, attributes=attributes, start_time=_nanoseconds(at)
        )
        return span


def _nanoseconds(seconds: float) -> int:
    return int(seconds * _BILLION)
