"""Spans as the SDK exports them, and that nothing is imported where tracing is off."""

from __future__ import annotations

import subprocess
import sys

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from broadcaster.core.requests.origins import TraceContext
from broadcaster.errors import SetupError
from broadcaster.observability.tracing import opening
from broadcaster.observability.tracing.otel import ExportingTracing

PARENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "01", "vendor=opaque")


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def exporting(exporter: InMemorySpanExporter) -> ExportingTracing:
    return ExportingTracing(SimpleSpanProcessor(exporter), service="test")


def test_a_span_continues_its_parent_and_carries_its_state(
    exporting: ExportingTracing, exporter: InMemorySpanExporter
) -> None:
    span = exporting.begin("work", parent=PARENT, kind="client", attributes={"a": 1, "none": None}, at_ms=1000)
    context = span.context
    assert context is not None
    assert (context.trace_id, context.flags, context.state) == (PARENT.trace_id, "01", "vendor=opaque")
    span.end({"b": ["x"], "nothing": None}, name="better", error="provider_timeout", at_ms=2500)
    (exported,) = exporter.get_finished_spans()
    assert (exported.name, exported.start_time, exported.end_time) == ("better", 10**9, 25 * 10**8)
    assert exported.parent is not None
    assert f"{exported.parent.span_id:016x}" == PARENT.span_id
    assert dict(exported.attributes or {}) == {"a": 1, "b": ("x",), "error.type": "provider_timeout"}
    assert not exported.status.is_ok


def test_a_caller_that_does_not_sample_is_followed(exporting: ExportingTracing, exporter: InMemorySpanExporter) -> None:
    span = exporting.begin("work", parent=PARENT._replace(flags="00"))
    span.end()
    assert span.context is not None
    assert span.context.flags == "00"
    assert exporter.get_finished_spans() == ()


def test_a_span_without_a_parent_begins_a_trace_whatever_the_task_is_in(exporting: ExportingTracing) -> None:
    first, second = (exporting.begin("work", parent=None).context for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.trace_id != second.trace_id


def test_without_tracing_a_span_passes_its_parent_on() -> None:
    opened = opening.open_tracing("off", service="test")
    span = opened.begin("work", parent=PARENT)
    span.end({"a": 1}, error="x")
    assert (opened.is_on, span.context) == (False, PARENT)


_MISSING = "sys.modules['opentelemetry.sdk'] = sys.modules['opentelemetry.exporter'] = None"
_PROGRAM = """
import sys
INSTALL
import worker.main, broadcaster.web.app, broadcaster.observability.tracing.opening as t
t.open_tracing('off', service='x')
print([name for name, module in sys.modules.items() if module is not None and name.startswith(PREFIXES)])
"""


@pytest.mark.parametrize(
    ("install", "prefixes"),
    [
        (_MISSING, "('opentelemetry.sdk', 'opentelemetry.exporter', 'broadcaster.observability.tracing.otel')"),
        # FastAPI needs the API, and redis-py imports parts of the SDK where it is installed.
        ("", "('opentelemetry.exporter', 'broadcaster.observability.tracing.otel')"),
    ],
)
def test_a_process_without_traces_imports_no_exporter_and_needs_no_extra(install: str, prefixes: str) -> None:
    program = _PROGRAM.replace("INSTALL", install).replace("PREFIXES", prefixes)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_the_missing_extra_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "find_spec", lambda name: None)
    with pytest.raises(SetupError, match=r"llm-broadcaster\[otel\]"):
        opening.open_tracing("otlp", service="test")
