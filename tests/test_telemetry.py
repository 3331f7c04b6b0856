"""Entries as OpenTelemetry spans and metrics."""

import asyncio
from dataclasses import replace

import pytest
from aiohttp import web
from house import house
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from servers import call, chat, completion, replies, upstream

from proxy.ledger import Ended, LedgerEntry, outcome_fields
from proxy.telemetry import TelemetrySink, from_environment, operation_of
from proxy.types import Component, Count, Mode, Outcome

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
OUTCOME = Outcome(
    "rag",
    Mode.ON,
    tokens_before=1000,
    tokens_after=400,
    components={Component.CONTEXT: Count(1000, 400)},
    first_saved=500,
    repeat_saved=100,
    compress_ms=20.0,
)
ENTRY = LedgerEntry(
    request_id="r1",
    started_at="2026-11-26T12:00:00.500+00:00",
    method="POST",
    path="/v1/chat/completions?secret=1",
    status=200,
    model="gpt-4o",
    prompt_tokens=410,
    completion_tokens=20,
    duration_ms=250.0,
    traceparent=f"00-{TRACE}-{SPAN}-01",
    **outcome_fields(OUTCOME),
)


@pytest.fixture
def spans():
    return InMemorySpanExporter()


@pytest.fixture
def reader():
    return InMemoryMetricReader()


@pytest.fixture
def sink(spans, reader):
    traces = TracerProvider()
    traces.add_span_processor(SimpleSpanProcessor(spans))
    sink = TelemetrySink(traces, MeterProvider([reader]))
    yield sink
    sink.close()


def measured(reader):
    """Every data point: name -> [(attributes, sum or value)]."""
    found = {}
    for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics:
        for metric in scope.metrics:
            for point in metric.data.data_points:
                value = point.sum if hasattr(point, "sum") else point.value
                found.setdefault(metric.name, []).append((dict(point.attributes), value))
    return found


def test_a_span_begins_and_ends_with_the_exchange_and_is_the_callers_child(sink, spans):
    sink.write(ENTRY)
    (span,) = spans.get_finished_spans()
    assert (span.name, span.kind) == ("chat gpt-4o", SpanKind.SERVER)
    assert (span.end_time - span.start_time, span.start_time % 10**9) == (250 * 10**6, 5 * 10**8)
    assert f"{span.parent.span_id:016x}" == SPAN
    assert f"{span.context.trace_id:032x}" == TRACE
    assert span.status.status_code is StatusCode.UNSET


def test_a_span_says_what_the_conventions_have_names_for_and_what_was_saved(sink, spans):
    sink.write(ENTRY)
    told = dict(spans.get_finished_spans()[0].attributes)
    assert told == {
        "http.request.method": "POST",
        "url.path": "/v1/chat/completions",
        "http.response.status_code": 200,
        "http.request.body.size": 0,
        "http.response.body.size": 0,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 410,
        "gen_ai.usage.output_tokens": 20,
        "laconic.request_id": "r1",
        "laconic.policy": "rag",
        "laconic.mode": "on",
        "laconic.tokens_before": 1000,
        "laconic.tokens_after": 400,
        "laconic.first_saved": 500,
        "laconic.repeat_saved": 100,
        "laconic.recalled_tokens": 0,
        "laconic.compress_ms": 20.0,
        "laconic.queue_ms": 0.0,
        "laconic.model_ms": 0.0,
        "laconic.ended": "complete",
        "laconic.resent": False,
    }


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"ended": Ended.CALLER_GONE}, "caller-gone"),
        ({"status": 502}, "502"),
        ({"status": 429}, None),
    ],
)
def test_what_went_wrong_is_told(sink, spans, changed, error):
    sink.write(replace(ENTRY, **changed))
    (span,) = spans.get_finished_spans()
    assert span.attributes.get("error.type") == error
    assert span.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)


def test_what_is_no_models_work_is_a_span_by_its_method_alone(sink, spans, reader):
    plain = LedgerEntry(
        request_id="r", started_at=ENTRY.started_at, method="GET", path="/v1/models"
    )
    sink.write(plain)
    (span,) = spans.get_finished_spans()
    assert (span.name, span.parent) == ("GET", None)
    assert not [name for name in span.attributes if name.startswith("gen_ai")]
    assert reader.get_metrics_data() is None


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/chat/completions", "chat"),
        ("/openai/v1/responses", "chat"),
        ("/v1/completions", "text_completion"),
        ("/v1/embeddings", "embeddings"),
        ("/v1/files", None),
    ],
)
def test_operations_are_called_as_the_conventions_call_them(path, operation):
    assert operation_of(replace(ENTRY, path=path)) == operation


def test_tokens_time_and_savings_are_measured(sink, reader):
    sink.write(ENTRY)
    sink.write(replace(ENTRY, resent=True, prompt_tokens=None, completion_tokens=None))
    common = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
    }
    assert measured(reader) == {
        "gen_ai.client.token.usage": [
            ({**common, "gen_ai.token.type": "input"}, 410),
            ({**common, "gen_ai.token.type": "output"}, 20),
        ],
        "gen_ai.client.operation.duration": [(common, 0.5)],
        "laconic.compress.duration": [({"laconic.policy": "rag"}, 0.04)],
        "laconic.tokens.saved": [
            ({"laconic.policy": "rag", "laconic.saved.when": "first"}, 500),
            ({"laconic.policy": "rag", "laconic.saved.when": "again"}, 100),
        ],
    }


async def test_an_exchange_joins_the_callers_trace_and_the_header_goes_on(sink, spans):
    header = f"00-{TRACE}-{SPAN}-01"
    script = replies(body=completion())
    async with upstream(script) as far, house(far, sinks=[sink]) as home:
        given = [("traceparent", header), ("Content-Type", "application/json")]
        await call(home.port, "POST", "/v1/chat/completions", chat(), given)
        await home.ledger.entry()
        await call(home.port, "POST", "/v1/chat/completions", chat(), [("traceparent", "junk")])
        assert (await home.ledger.entry(2)).traceparent is None
    assert dict(far.seen[0].headers)["traceparent"] == header
    first, second = spans.get_finished_spans()
    assert f"{first.context.trace_id:032x}" == TRACE
    assert second.parent is None


class Collector:
    """What receives OTLP over HTTP."""

    def __init__(self):
        self.traces, self.metrics = ExportTraceServiceRequest(), ExportMetricsServiceRequest()

    async def serve(self, app, path, kept):
        async def take(request):
            kept.MergeFromString(await request.read())
            return web.Response()

        app.router.add_post(path, take)


async def test_what_is_sent_reaches_a_collector(monkeypatch):
    collector, app = Collector(), web.Application()
    await collector.serve(app, "/v1/traces", collector.traces)
    await collector.serve(app, "/v1/metrics", collector.metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    sink = from_environment()
    sink.write(ENTRY)
    await asyncio.to_thread(sink.close)
    await runner.cleanup()
    (resource,) = collector.traces.resource_spans
    assert [span.name for scope in resource.scope_spans for span in scope.spans] == ["chat gpt-4o"]
    attributes = {a.key: a.value.string_value for a in resource.resource.attributes}
    assert attributes["service.name"] == "laconic"
    names = {
        m.name
        for r in collector.metrics.resource_metrics
        for s in r.scope_metrics
        for m in s.metrics
    }
    assert "gen_ai.client.token.usage" in names
