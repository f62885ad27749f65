"""The spans of an attempt: its wait, its calls of providers and tools, each with its end, and none of their content."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broadcaster.core import events as ev
from broadcaster.core.requests.origins import Origin, TraceContext
from broadcaster.errors import ProviderFailed
from broadcaster.log.streams.reader import Meta
from broadcaster.observability.tracing.otel import ExportingTracing
from worker.observing.attempt_report import AttemptReport

TRACE = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "01")
SECRET = "of-the-caller"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
async def report(exporter: InMemorySpanExporter) -> AttemptReport:
    return report_of("m", exporter)


def report_of(model: str, exporter: InMemorySpanExporter) -> AttemptReport:
    fields = {b"tenant": b"acme", b"attempts": b"1", b"created_ms": b"1000", b"model": model.encode()}
    stored = {name.encode(): value.encode() for name, value in Origin("req_1", "messages", TRACE).fields().items()}
    meta = Meta.from_hash("gen_1", {**fields, **stored})
    return AttemptReport(meta, epoch=1500, tracing=ExportingTracing(SimpleSpanProcessor(exporter), service="test"))


def named(exporter: InMemorySpanExporter, name: str) -> ReadableSpan:
    """The only span of this name."""
    (span,) = (span for span in exporter.get_finished_spans() if span.name == name)
    return span


async def test_the_wait_is_a_span_from_the_creation_to_the_grant(
    report: AttemptReport, exporter: InMemorySpanExporter
) -> None:
    wait = named(exporter, "queue wait")
    assert (wait.start_time, wait.end_time) == (10**9, 15 * 10**8)
    assert report.trace_id == TRACE.trace_id


async def test_each_try_is_a_span_and_only_the_failed_one_is_an_error(
    report: AttemptReport, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(ProviderFailed):
        with report.facts.call("anthropic", "first"):
            raise ProviderFailed(SECRET, reason="provider_overloaded")
    with report.facts.call("openai", "second") as call:
        report.facts.content([ev.TextDelta(id="0", delta=SECRET)])
        call.usage = ev.Usage(input_tokens=3, output_tokens=5)
        call.last = ev.Finish(finish_reason="stop")
    report.write("finished", "stop", usage=call.usage, entries=4)
    failed, good, attempt = (named(exporter, name) for name in ("chat first", "chat second", "attempt"))
    assert failed.attributes is not None
    assert failed.attributes["error.type"] == "provider_overloaded"
    assert (failed.status.is_ok, good.status.is_ok or good.status.is_unset) == (False, True)
    assert good.attributes is not None
    assert good.attributes["gen_ai.usage.output_tokens"] == 5
    assert good.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert good.parent is not None
    assert attempt.context is not None
    assert good.parent.span_id == attempt.context.span_id
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


@pytest.mark.parametrize(
    ("output", "is_error"),
    [
        (ev.ToolOutputAvailable(tool_call_id="call_1", output=SECRET), False),
        (ev.ToolOutputError(tool_call_id="call_1", error_text=SECRET), True),
    ],
)
async def test_a_tool_call_is_a_span_without_arguments_and_output(
    report: AttemptReport, exporter: InMemorySpanExporter, output: ev.Event, is_error: bool
) -> None:
    with report.facts.tool_call("weather", "call_1") as outputs:
        outputs.append(output)
    span = named(exporter, "execute_tool weather")
    assert span.attributes is not None
    assert span.attributes["gen_ai.tool.name"] == "weather"
    assert ("error.type" in span.attributes) is is_error
    assert SECRET not in span.to_json()


@pytest.mark.parametrize("model", [f"gpt-x\nforged_line {SECRET}", f"gpt-{SECRET} \x1b[2K", "gpt-" + SECRET * 20])
async def test_what_a_caller_wrote_in_place_of_a_model_is_in_no_line_and_no_span(
    exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    caplog.set_level("INFO")
    report = report_of(model, exporter)
    with pytest.raises(ProviderFailed):
        with report.facts.call("openai", model):
            raise ProviderFailed("refused", reason="provider_bad_request")
    report.write("failed", "provider_bad_request", usage=None, entries=2)
    assert "attempt_ended" in caplog.text
    assert SECRET not in caplog.text
    assert named(exporter, "chat").end_time is not None
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_the_line_names_the_model_of_the_request_and_that_of_the_provider(
    exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    report = report_of("hf.co/a/b:Q4_K_M", exporter)
    with report.facts.call("local", "b-4"):
        pass
    report.write("finished", "stop", usage=None, entries=2)
    assert "model='hf.co/a/b:Q4_K_M'" in caplog.text
    assert "provider_model='b-4'" in caplog.text
