"""Every fault of a provider has its stable reason on every wire, and no fault is ever an answer."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broadcaster.core import events as ev
from broadcaster.errors import ProviderFailed
from broadcaster.testing import Answer, BadJson, Cut, Hang, Headers, Reset, Script, SendRaw, Step, chat_wire, wire
from tests.worker.providers.provider_support import (
    ANTHROPIC,
    CHAT,
    KEY,
    OPENAI_WIRES,
    PROMPT,
    WIRES,
    Wire,
    failing,
    on_every_wire,
    on_openai_wires,
    provider_at,
    request_for,
    scripted,
    text_of,
)


async def fault(
    on: Wire, *steps: Step, read_timeout_s: float = 5.0, **fields: Any
) -> tuple[ProviderFailed, list[ev.Event]]:
    """The failure that a script causes, and what came before it."""
    async with scripted(on, read_timeout_s=read_timeout_s) as (server, provider):
        server.script("claude-x", Script(*steps))
        return await failing(provider, request_for("claude-x", **fields))


ANTHROPIC_STATUSES = [
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
]
OPENAI_STATUSES = [
    (400, "provider_bad_request", False),
    (401, "provider_auth", False),
    (403, "provider_auth", False),
    (404, "provider_bad_request", False),
    (408, "provider_timeout", True),
    (409, "provider_error", True),
    (413, "provider_bad_request", False),
    (422, "provider_bad_request", False),
    (429, "provider_rate_limited", True),
    (500, "provider_error", True),
    (502, "provider_error", True),
    (503, "provider_overloaded", True),
    (504, "provider_timeout", True),
    (529, "provider_overloaded", True),
]


@pytest.mark.parametrize(("status", "reason", "retryable"), ANTHROPIC_STATUSES)
async def test_a_refusal_is_classified_by_its_status_and_its_type(status: int, reason: str, retryable: bool):
    failure, _ = await fault(ANTHROPIC, Answer(status))
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert f"HTTP {status}, {wire.ERROR_TYPES[status]}, request req_scripted_1" in failure.detail


@on_openai_wires
@pytest.mark.parametrize(("status", "reason", "retryable"), OPENAI_STATUSES)
async def test_a_refusal_of_openai_is_classified_by_its_status_and_its_code(
    on: Wire, status: int, reason: str, retryable: bool
):
    failure, _ = await fault(on, Answer(status))
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert failure.detail.partition("(")[2].startswith(f"HTTP {status}, ")
    assert "request req_scripted_1" in failure.detail


@on_every_wire
@pytest.mark.parametrize("steps", [(Answer(429),), (Headers(), Cut()), (Headers({"content-type": "text/html"}),)])
async def test_a_failure_names_its_request_where_a_response_came(on: Wire, steps: tuple[Step, ...]):
    failure, _ = await fault(on, *steps)
    assert failure.request_id == "req_scripted_1"


@on_every_wire
@pytest.mark.parametrize("id", ["x" * 201, f"req-{KEY}", "sk-proj-0123456789", "a b"])
async def test_a_value_that_is_not_a_request_id_is_left_out_of_the_answer(on: Wire, id: str):
    headers = {on.scripted.request_id_header: id}
    async with scripted(on) as (server, provider):
        server.script("claude-x", Script(Headers(headers), on.half(), Cut()), Script(Answer(429, headers=headers)))
        for _ in range(2):
            failure, events = await failing(provider, request_for("claude-x"))
            assert failure.request_id is None
            assert id not in repr(events) + failure.detail


async def test_a_known_code_is_reported_with_its_status():
    failure, _ = await fault(CHAT, Answer(404))
    assert "HTTP 404, model_not_found, request req_scripted_1" in failure.detail


@on_every_wire
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "provider_bad_request"),
        (401, "provider_auth"),
        (402, "provider_auth"),
        (408, "provider_timeout"),
        (418, "provider_bad_request"),
        (429, "provider_rate_limited"),
        (502, "provider_error"),
        (529, "provider_overloaded"),
    ],
)
async def test_a_refusal_by_a_gateway_that_speaks_html_is_classified_by_its_status(on: Wire, status: int, reason: str):
    failure, _ = await fault(on, Answer(status, body=b"<html>sorry</html>", headers={"content-type": "text/html"}))
    assert failure.reason == reason
    assert "sorry" not in failure.detail


async def test_the_type_of_an_error_wins_over_its_status():
    failure, _ = await fault(ANTHROPIC, Answer(500, body=wire.error("overloaded_error")))
    assert failure.reason == "provider_overloaded"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "provider_auth"), (429, "provider_rate_limited"), (500, "provider_error"), (422, "provider_bad_request")],
)
async def test_a_gateway_that_calls_everything_an_invalid_request_is_classified_by_its_status(status: int, reason: str):
    failure, _ = await fault(ANTHROPIC, Answer(status, body=wire.error("invalid_request_error")))
    assert failure.reason == reason


@on_openai_wires
@pytest.mark.parametrize(
    ("status", "type", "code", "reason", "retryable"),
    [
        (429, "insufficient_quota", "insufficient_quota", "provider_auth", False),
        (500, "server_error", "server_overloaded", "provider_overloaded", True),
        (400, "invalid_request_error", "content_policy_violation", "provider_bad_request", False),
    ],
)
async def test_the_code_of_an_error_wins_over_its_status(
    on: Wire, status: int, type: str, code: str, *, reason: str, retryable: bool
):
    failure, _ = await fault(on, Answer(status, body=chat_wire.error(type, code=code)))
    assert (failure.reason, failure.retryable) == (reason, retryable)
    assert f"HTTP {status}, {code}" in failure.detail


@on_openai_wires
@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"object": "error", "message": "no such thing", "type": "BadRequestError", "code": 400}, "no such thing"),
        ({"error": "model 'x' not found"}, "model 'x' not found"),
        ({"detail": "not like this"}, "not like this"),
    ],
    ids=["vLLM", "Ollama", "FastAPI"],
)
async def test_the_error_bodies_of_compatible_servers_are_read(on: Wire, body: object, expected: str):
    failure, _ = await fault(on, Answer(400, body=body))
    assert failure.reason == "provider_bad_request"
    assert expected in failure.detail


@on_every_wire
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "30"}, 30.0), ({"retry-after": "3600"}, 3600.0), ({"retry-after-ms": "30500"}, 30.5), ({}, None)],
)
async def test_the_providers_own_delay_is_reported_and_not_obeyed(
    on: Wire, headers: dict[str, str], seconds: float | None
):
    async with asyncio.timeout(20):
        failure, _ = await fault(on, Answer(429, headers=headers))
    assert failure.retry_after_s == seconds


@on_every_wire
@pytest.mark.parametrize(("status", "header", "retryable"), [(400, "true", True), (529, "false", False)])
async def test_the_header_that_allows_or_forbids_retries_wins(on: Wire, status: int, header: str, *, retryable: bool):
    failure, _ = await fault(on, Answer(status, headers={"x-should-retry": header}))
    assert failure.retryable is retryable


@on_every_wire
@pytest.mark.parametrize("status", [429, 529])
async def test_one_call_is_one_request(on: Wire, status: int):
    async with scripted(on) as (server, provider):
        server.script("claude-x", Script(Answer(status)))
        await failing(provider, request_for("claude-x"))
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("on", "error_type", "reason"),
    [
        (ANTHROPIC, "overloaded_error", "provider_overloaded"),
        (ANTHROPIC, "rate_limit_error", "provider_rate_limited"),
        (ANTHROPIC, "api_error", "provider_error"),
        *((each, "server_overloaded", "provider_overloaded") for each in OPENAI_WIRES),
        *((each, "rate_limit_exceeded", "provider_rate_limited") for each in OPENAI_WIRES),
        *((each, "server_error", "provider_error") for each in OPENAI_WIRES),
    ],
    ids=str,
)
async def test_an_error_in_the_middle_of_an_answer_is_classified_by_its_type(on: Wire, error_type: str, reason: str):
    failure, events = await fault(on, on.half(), on.fail(error_type, f"{KEY} {PROMPT}"))
    assert (failure.reason, failure.retryable) == (reason, True)
    assert text_of(events) == "half an answer"


@on_every_wire
async def test_an_error_event_ends_the_answer_even_if_the_body_goes_on(on: Wire):
    async with asyncio.timeout(20):
        steps = (on.half(), on.fail(on.scripted.overloaded, "Overloaded"), Hang())
        failure, _ = await fault(on, *steps, read_timeout_s=60)
    assert failure.reason == "provider_overloaded"


def stages(*steps: Step) -> Any:
    """The steps after nothing, after the headers, and in the middle of an answer."""
    cases = [
        pytest.param(each, before, steps, id=f"{each}-{name}")
        for each in WIRES
        for name, before in (("at once", ()), ("after the headers", (Headers(),)), ("midway", (each.half(),)))
    ]
    return pytest.mark.parametrize(("on", "before", "steps"), cases)


@on_every_wire
async def test_a_truncated_answer_is_never_a_success(on: Wire):
    for before in ((Headers(),), (on.half(),)):
        failure, _ = await fault(on, *before)
        assert (failure.reason, failure.retryable) == ("provider_truncated", True)


async def test_an_answer_without_its_message_stop_is_truncated_even_when_its_counts_have_come():
    events = (*wire.message(wire.text("half an ", "answer"))[:4], wire.block_stop(0), wire.message_delta())
    failure, _ = await fault(ANTHROPIC, SendRaw(b"".join(map(wire.frame, events))))
    assert failure.reason == "provider_truncated"


@stages(Cut())
async def test_a_cut_connection_is_a_disconnect(on: Wire, before: tuple[Step, ...], steps: tuple[Step, ...]):
    failure, _ = await fault(on, *before, *steps)
    assert (failure.reason, failure.retryable) == ("provider_disconnected", True)


@stages(Reset())
async def test_a_reset_connection_is_a_disconnect(on: Wire, before: tuple[Step, ...], steps: tuple[Step, ...]):
    failure, _ = await fault(on, *before, *steps)
    assert (failure.reason, failure.retryable) == ("provider_disconnected", True)


@stages(Hang())
async def test_silence_is_a_timeout(on: Wire, before: tuple[Step, ...], steps: tuple[Step, ...]):
    failure, _ = await fault(on, *before, *steps, read_timeout_s=0.1)
    assert (failure.reason, failure.retryable) == ("provider_timeout", True)


@on_every_wire
@pytest.mark.parametrize(
    "steps",
    [
        (BadJson(),),
        (SendRaw(b"data: []\n\n"),),
        (Headers({"content-type": "text/html"}), SendRaw(b"<html></html>")),
        (Headers({"content-encoding": "gzip"}), SendRaw(b"not gzip at all")),
    ],
    ids=["bad JSON", "no object", "HTML", "no gzip"],
)
async def test_a_stream_that_breaks_the_protocol_is_bad_data(on: Wire, steps: tuple[Step, ...]):
    failure, _ = await fault(on, *steps)
    assert (failure.reason, failure.retryable) == ("provider_bad_data", True)


@on_every_wire
async def test_bad_json_in_the_middle_of_an_answer_comes_after_what_was_good(on: Wire):
    failure, events = await fault(on, on.half(), BadJson())
    assert failure.reason == "provider_bad_data"
    assert text_of(events) == "half an answer"


SSH = b"SSH-2.0-OpenSSH_9.2\r\n\r\n"
# The settings frame with which a server of HTTP/2 begins, and the GOAWAY that a client of HTTP/1 earns.
HTTP_2 = bytes.fromhex("0000000400000000000000080700000000000000000000000001")


@asynccontextmanager
async def nonsense_port(greeting: bytes = SSH) -> AsyncIterator[int]:
    """A port that answers whatever comes with what is neither HTTP/1 nor TLS."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(greeting)
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@on_every_wire
@pytest.mark.parametrize(("scheme", "reason"), [("http", "provider_bad_data"), ("https", "provider_unreachable")])
async def test_a_port_that_speaks_another_protocol_is_distinguished_from_a_provider(on: Wire, scheme: str, reason: str):
    async with nonsense_port() as port, provider_at(f"{scheme}://127.0.0.1:{port}", on) as provider:
        failure, _ = await failing(provider, request_for("claude-x"))
    assert (failure.reason, failure.retryable) == (reason, True)


@on_every_wire
async def test_a_server_that_speaks_only_http_2_is_bad_data(on: Wire):
    async with nonsense_port(HTTP_2) as port, provider_at(f"http://127.0.0.1:{port}", on) as provider:
        failure, _ = await failing(provider, request_for("claude-x"))
    assert (failure.reason, failure.retryable) == ("provider_bad_data", True)


@on_every_wire
async def test_a_port_without_a_listener_is_unreachable(on: Wire):
    with socket.socket() as unused:  # bound all the while: no other program can listen there
        unused.bind(("127.0.0.1", 0))
        async with provider_at(f"http://127.0.0.1:{unused.getsockname()[1]}", on) as provider:
            failure, _ = await failing(provider, request_for("claude-x"))
    assert (failure.reason, failure.retryable) == ("provider_unreachable", True)


@on_every_wire
@pytest.mark.parametrize("base_url", ["localhost:8080", "ftp://x", "http://"])
async def test_a_base_url_of_no_server_is_unreachable_for_good(on: Wire, base_url: str):
    async with provider_at(base_url, on) as provider:
        failure, _ = await failing(provider, request_for("claude-x"))
    assert (failure.reason, failure.retryable) == ("provider_unreachable", False)


@on_every_wire
@pytest.mark.parametrize("extra", [{"top_p": float("nan")}, {"x": object()}, {"x": "\ud800"}])
async def test_a_request_that_has_no_form_on_the_wire_is_a_bad_request(on: Wire, extra: dict[str, Any]):
    failure, _ = await fault(on, Answer(200, body={}), extra=extra)
    assert (failure.reason, failure.retryable) == ("provider_bad_request", False)


@on_every_wire
async def test_a_bad_request_names_what_to_change(on: Wire):
    failure, _ = await fault(on, Answer(400, message="max_tokens: 100000 > 8192, the maximum for this model"))
    assert "max_tokens: 100000 > 8192, the maximum for this model" in failure.detail


@on_every_wire
@pytest.mark.parametrize("status", [400, 401, 429, 500])
async def test_no_error_text_repeats_a_key_or_the_request(on: Wire, status: int):
    for message in (
        f"invalid key {KEY}",
        f"Authorization: Bearer {KEY[:12]}…",
        f'bad: "{PROMPT}"',
        f"bad: {PROMPT[5:35]}",
    ):
        failure, _ = await fault(on, Answer(status, message=message))
        assert KEY[:12] not in failure.detail
        assert PROMPT[5:35] not in failure.detail


@on_every_wire
async def test_a_failure_has_no_cause_that_would_reveal_more_in_a_traceback(on: Wire):
    for steps in ((Answer(401, message=KEY),), (on.half(), Cut()), (on.half(), BadJson())):
        failure, _ = await fault(on, *steps)
        assert failure.__cause__ is None
        assert failure.__context__ is None or failure.__suppress_context__


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("image input is not supported - hint: you may need to provide the mmproj", "provider_bad_request"),
        ("this model does not support image input", "provider_bad_request"),
        ("this model is missing data required for image input", "provider_bad_request"),
        ("image decoder crashed", "provider_error"),
    ],
)
@on_every_wire
async def test_a_500_for_an_input_that_the_model_cannot_read_is_the_requests_own(on: Wire, message: str, reason: str):
    failure, _ = await fault(on, Answer(500, message=message))
    assert (failure.reason, failure.retryable) == (reason, reason == "provider_error")
    assert (message.split(" - ")[0] in failure.detail) is (reason == "provider_bad_request")
