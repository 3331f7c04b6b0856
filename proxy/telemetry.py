"""The ledger's entries as OpenTelemetry spans and metrics: one more sink, an extra.

A span per exchange, begun and ended when the exchange was, a child of the caller's where it sent a
`traceparent` (W3C Trace Context), which goes on to the upstream as it came.  Names are those of the
GenAI semantic conventions; what they have no name for is below `laconic.`.  Where to, how often and
under which service name is told by the standard `OTEL_*` variables.

Made by the clerk's thread, sent by the SDK's own: nothing here is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from proxy.errors import PolicyError
from proxy.ledger import Ended, LedgerEntry

try:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ImportError as error:
    raise PolicyError(
        "LACONIC_OTEL: found no OpenTelemetry SDK, wanted it: pip install 'laconic[otel]'"
    ) from error

_OPERATIONS: Final = (
    ("/chat/completions", "chat"),
    ("/responses", "chat"),
    ("/completions", "text_completion"),
    ("/embeddings", "embeddings"),
)
"""How a path ends, and what the conventions call it."""
_TOKENS: Final = [4**power for power in range(14)]
_SECONDS: Final = [0.01 * 2**power for power in range(14)]
"""Bucket boundaries that the conventions advise."""
_NAME: Final = "laconic"


class TelemetrySink:
    """Turns entries into spans and measurements."""

    def __init__(self, traces: TracerProvider, metrics: MeterProvider) -> None:
        """Send to the providers, which are shut down by :meth:`close`."""
        self._traces, self._metrics = traces, metrics
        self._tracer = traces.get_tracer(_NAME)
        meter = metrics.get_meter(_NAME)
        self._usage = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Input and output tokens, as the upstream reports them.",
            explicit_bucket_boundaries_advisory=_TOKENS,
        )
        timing = partial(
            meter.create_histogram, unit="s", explicit_bucket_boundaries_advisory=_SECONDS
        )
        self._duration = timing(
            "gen_ai.client.operation.duration",
            description="From a request's arrival to the last byte of its answer.",
        )
        self._compress = timing(
            "laconic.compress.duration", description="From the whole body to the compressed body."
        )
        self._saved = meter.create_counter(
            "laconic.tokens.saved", "{token}", "Prompt tokens left out of what was sent."
        )

    def write(self, entry: LedgerEntry) -> None:
        """Make the span and the measurements of one exchange."""
        operation = operation_of(entry)
        begun = _nanoseconds(entry.started_at)
        span = self._tracer.start_span(
            _name(entry, operation),
            context=_parent(entry.traceparent),
            kind=SpanKind.SERVER,
            attributes=attributes(entry, operation),
            start_time=begun,
        )
        error = _error(entry)
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(begun + int(entry.duration_ms * 1e6))
        if operation is not None:
            self._measure(entry, operation, error)

    def settle(self) -> None:
        """Nothing: the SDK sends when it sees fit."""

    def close(self) -> None:
        """Send what waits, and stop.  May block."""
        self._traces.shutdown()
        self._metrics.shutdown()

    def _measure(self, entry: LedgerEntry, operation: str, error: str | None) -> None:
        common = _known(
            {
                "gen_ai.operation.name": operation,
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": entry.model,
            }
        )
        for kind, tokens in (("input", entry.prompt_tokens), ("output", entry.completion_tokens)):
            if tokens is not None:
                self._usage.record(tokens, {**common, "gen_ai.token.type": kind})
        told = common if error is None else {**common, "error.type": error}
        self._duration.record(entry.duration_ms / 1000, told)
        policy = {"laconic.policy": entry.policy or "none"}
        if entry.tokens_before is not None:
            self._compress.record(entry.compress_ms / 1000, policy)
        if entry.mode == "on" and not entry.resent:
            for when, saved in (("first", entry.first_saved), ("again", entry.repeat_saved)):
                if saved > 0:
                    self._saved.add(saved, {**policy, "laconic.saved.when": when})


def from_environment(environ: Mapping[str, str] = os.environ) -> TelemetrySink:
    """Send where the `OTEL_*` variables say, by OTLP over HTTP; as service `laconic` by default.

    Raises PolicyError where the exporter is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import (  # noqa: PLC0415
            OTLPMetricExporter,
        )
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise PolicyError(
            "LACONIC_OTEL: found no OTLP exporter, wanted it: pip install 'laconic[otel]'"
        ) from error
    from opentelemetry.sdk.metrics.export import (  # noqa: PLC0415
        PeriodicExportingMetricReader,
    )
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    named = "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    default = {} if named or environ.get("OTEL_SERVICE_NAME") else {"service.name": _NAME}
    resource = Resource.create(default)
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    reader = PeriodicExportingMetricReader(OTLPMetricExporter())
    return TelemetrySink(traces, MeterProvider([reader], resource, shutdown_on_exit=False))


def operation_of(entry: LedgerEntry) -> str | None:
    """Return what the conventions call an exchange; None for what is no model's work."""
    if entry.method != "POST":
        return None
    path = entry.record()["path"]
    return next((name for end, name in _OPERATIONS if path.endswith(end)), None)


def attributes(entry: LedgerEntry, operation: str | None) -> dict[str, Any]:
    """Return what a span says of an exchange, what is not known left out."""
    record = entry.record()
    told = {
        "http.request.method": entry.method,
        "url.path": record["path"],
        "http.response.status_code": entry.status,
        "http.request.body.size": entry.bytes_in,
        "http.response.body.size": entry.bytes_out,
        **{f"laconic.{name}": record[name] for name in _OURS},
    }
    if operation is not None:
        told |= {
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": record["model"],
            "gen_ai.usage.input_tokens": entry.prompt_tokens,
            "gen_ai.usage.output_tokens": entry.completion_tokens,
        }
    return _known(told)


_OURS: Final = (
    "request_id",
    "route",
    "policy",
    "mode",
    "reason",
    "detail",
    "tokens_before",
    "tokens_after",
    "first_saved",
    "repeat_saved",
    "recalled_tokens",
    "cached_tokens",
    "compress_ms",
    "queue_ms",
    "model_ms",
    "upstream_ttfb_ms",
    "ended",
    "resent",
    "key_name",
    "upstream",
)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _name(entry: LedgerEntry, operation: str | None) -> str:
    """Name a span: `chat gpt-4o`, or the method alone: paths have no end of names."""
    if operation is None:
        return entry.method
    model = entry.record()["model"]
    return operation if model is None else f"{operation} {model}"


def _error(entry: LedgerEntry) -> str | None:
    """Return the class of what went wrong: how it ended, or the status."""
    if entry.ended is not Ended.COMPLETE:
        return str(entry.ended)
    failed = entry.status is not None and entry.status >= 500
    return str(entry.status) if failed else None


def _parent(traceparent: str | None) -> Any:
    carrier = {} if traceparent is None else {"traceparent": traceparent}
    return TraceContextTextMapPropagator().extract(carrier)


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _nanoseconds(at: str) -> int:
    return (datetime.fromisoformat(at) - _EPOCH) // timedelta(microseconds=1) * 1000
