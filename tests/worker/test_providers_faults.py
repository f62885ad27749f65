"""Every fault of a provider has its stable reason, and no fault is ever an answer."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.testing import (
    Answer,
    BadJson,
    Cut,
    Hang,
    Headers,
    Reset,
    Script,
    Send,
    SendRaw,
    Step,
    wire,
)
from tests.worker.provider_support import KEY, PROMPT, anthropic_at, request_for, scripted, text_of
from worker.providers.base import Provider, ProviderRequest

HALF = Send(*wire.message(wire.text("half an ", "answer"))[:4])


async def fault(*steps: Step, read_timeout_s: float = 5.0, **fields: Any) -> tuple[ProviderFailed, list[ev.Event]]:
    """The failure that a script causes, and what came before it."""
    async with scripted(read_timeout_s=read_timeout_s) as (server, provider):
        server.script("claude-x", Script(*steps))
        return await failing(provider, request_for("claude-x", **fields))


async def failing(provider: Provider, request: ProviderRequest) -> tuple[ProviderFailed, list[ev.Event]]:
    events: list[ev.Event] = []
    with pytest.raises(ProviderFailed) as caught:
        async with provider.stream(request) as stream:
            async for batch in stream:
                events += batch
    assert not any(isinstance(event, ev.Finish) for event in events)
    assert KEY not in str(caught.value)
    assert PROMPT not in str(caught.value)
    return caught.value, events


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (400, "provider_bad_request", False),
        (401, "provider_auth", False),
        (402, "provider_auth", False),
        (403, "provider_auth", False),
        (404, "provider_bad_request", False),
        (409, "provider_error", True),
        (413, "provider_bad_request", False),
        (429, "provider_rate_limited", True),
        (500, "provider_error", True),
        (504, "provider_timeout", True),
        (529, "provider_overloaded", True),
    ],
)
async def test_a_refusal_is_told_by_its_status_and_its_type(status: int, reason: str, retryable: bool):
    failure, _ = await fault(Answer(status))
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert f"HTTP {status}, {wire.ERROR_TYPES[status]}, request req_scripted_1" in failure.detail


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "provider_bad_request"),
        (401, "provider_auth"),
        (408, "provider_timeout"),
        (418, "provider_bad_request"),
        (429, "provider_rate_limited"),
        (502, "provider_error"),
        (503, "provider_error"),
        (529, "provider_overloaded"),
    ],
)
async def test_a_refusal_by_a_gateway_that_speaks_html_is_told_by_its_status(status: int, reason: str):
    failure, _ = await fault(Answer(status, body=b"<html>sorry</html>"))
    assert failure.reason == reason
    assert "sorry" not in failure.detail


async def test_the_type_of_an_error_wins_over_its_status():
    failure, _ = await fault(Answer(500, body=wire.error("overloaded_error")))
    assert failure.reason == "provider_overloaded"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "2"}, 2.0), ({"retry-after": "3600"}, 3600.0), ({"retry-after-ms": "1500"}, 1.5), ({}, None)],
)
async def test_the_providers_own_delay_is_reported_and_not_obeyed(headers: dict[str, str], seconds: float | None):
    async with asyncio.timeout(2):
        failure, _ = await fault(Answer(429, headers=headers))
    assert failure.retry_after_s == seconds


async def test_one_call_is_one_request():
    async with scripted() as (server, provider):
        server.script("claude-x", Script(Answer(529)))
        await failing(provider, request_for("claude-x"))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("error_type", "reason"),
    [
        ("overloaded_error", "provider_overloaded"),
        ("rate_limit_error", "provider_rate_limited"),
        ("api_error", "provider_error"),
    ],
)
async def test_an_error_in_the_middle_of_an_answer_is_told_by_its_type(error_type: str, reason: str):
    failure, events = await fault(HALF, Send(wire.error(error_type, f"{KEY} {PROMPT}")))
    assert (failure.reason, failure.retryable) == (reason, True)
    assert text_of(events) == "half an answer"


async def test_an_error_event_ends_the_answer_even_if_the_body_goes_on():
    async with asyncio.timeout(2):
        failure, _ = await fault(SendRaw(b"".join(map(wire.frame, [wire.message_start(), wire.error()]))), Hang())
    assert failure.reason == "provider_overloaded"


@pytest.mark.parametrize("steps", [(HALF,), (Headers(),), (HALF, Send(wire.block_stop(0), wire.message_delta()))])
async def test_a_truncated_answer_is_never_a_success(steps: tuple[Step, ...]):
    failure, _ = await fault(*steps)
    assert (failure.reason, failure.retryable) == ("provider_truncated", True)


@pytest.mark.parametrize(
    "steps", [(Cut(),), (Reset(),), (Headers(), Cut()), (Headers(), Reset()), (HALF, Cut()), (HALF, Reset())]
)
async def test_a_broken_connection_is_a_disconnect_before_and_after_the_headers(steps: tuple[Step, ...]):
    failure, _ = await fault(*steps)
    assert (failure.reason, failure.retryable) == ("provider_disconnected", True)


@pytest.mark.parametrize("steps", [(Hang(),), (Headers(), Hang()), (HALF, Hang())])
async def test_silence_is_a_timeout_before_and_after_the_headers(steps: tuple[Step, ...]):
    failure, _ = await fault(*steps, read_timeout_s=0.1)
    assert (failure.reason, failure.retryable) == ("provider_timeout", True)


@pytest.mark.parametrize(
    "steps",
    [
        (HALF, BadJson()),
        (SendRaw(b"data: {}\n\n"),),
        (Headers({"content-type": "text/html"}), SendRaw(b"<html></html>")),
        (Headers({"content-encoding": "gzip"}), SendRaw(b"not gzip at all")),
    ],
)
async def test_what_is_not_the_protocol_is_bad_data(steps: tuple[Step, ...]):
    failure, _ = await fault(*steps)
    assert (failure.reason, failure.retryable) == ("provider_bad_data", True)


@asynccontextmanager
async def nonsense_port() -> AsyncIterator[int]:
    """A port that answers whatever comes with what is neither HTTP nor TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize(("scheme", "reason"), [("http", "provider_bad_data"), ("https", "provider_unreachable")])
async def test_a_port_that_speaks_something_else_is_told_apart_from_a_provider(scheme: str, reason: str):
    async with nonsense_port() as port, anthropic_at(f"{scheme}://127.0.0.1:{port}") as provider:
        failure, _ = await failing(provider, request_for("claude-x"))
    assert (failure.reason, failure.retryable) == (reason, True)


async def test_a_port_on_which_nobody_listens_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    async with anthropic_at(f"http://127.0.0.1:{port}") as provider:
        failure, _ = await failing(provider, request_for("claude-x"))
    assert (failure.reason, failure.retryable) == ("provider_unreachable", True)


@pytest.mark.parametrize("base_url", ["localhost:8080", "ftp://x", "http://"])
async def test_a_base_url_of_no_server_is_unreachable_for_good(base_url: str):
    async with anthropic_at(base_url) as provider:
        failure, _ = await failing(provider, request_for("claude-x"))
    assert (failure.reason, failure.retryable) == ("provider_unreachable", False)


@pytest.mark.parametrize("extra", [{"top_p": float("nan")}, {"x": object()}, {"x": "\ud800"}])
async def test_a_request_that_has_no_form_on_the_wire_is_a_bad_request(extra: dict[str, Any]):
    failure, _ = await fault(Answer(200, body={}), extra=extra)
    assert (failure.reason, failure.retryable) == ("provider_bad_request", False)


async def test_a_bad_request_says_what_to_change():
    failure, _ = await fault(Answer(400, message="max_tokens: 100000 > 8192, the maximum for this model"))
    assert "max_tokens: 100000 > 8192, the maximum for this model" in failure.detail


@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_no_error_text_repeats_a_key_or_the_request(status: int):
    for message in (
        f"invalid key {KEY}",
        f"Authorization: Bearer {KEY[:12]}…",
        f'bad: "{PROMPT}"',
        f"bad: {PROMPT[5:35]}",
    ):
        failure, _ = await fault(Answer(status, message=message))
        assert KEY[:12] not in failure.detail
        assert PROMPT[5:35] not in failure.detail


async def test_no_cause_hangs_on_a_failure_that_would_tell_more_in_a_traceback():
    for steps in ((Answer(401, message=KEY),), (HALF, Cut()), (HALF, BadJson())):
        failure, _ = await fault(*steps)
        assert failure.__cause__ is None
        assert failure.__context__ is None or failure.__suppress_context__
