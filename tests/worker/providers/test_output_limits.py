"""A call without a bound: no limit on the wires that need none, the model's own on the wire that does."""

from __future__ import annotations

import asyncio

import pytest

from tests.worker.providers.provider_support import (
    ANTHROPIC,
    Wire,
    collect,
    on_openai_wires,
    provider_at,
    request_for,
    scripted,
)
from worker.providers import output_limits
from worker.providers.output_limits import FAILED_S, KNOWN_S, MAX_MODELS, OutputLimits

FALLBACK = 8192
NAMES = ("max_tokens", "max_completion_tokens", "max_output_tokens")


@on_openai_wires
async def test_an_openai_wire_is_sent_no_limit(on: Wire) -> None:
    async with scripted(on) as (server, provider):
        await collect(provider, request_for("gpt-4o", max_tokens=None))
        (request,) = server.requests
    assert not any(name in request.body for name in NAMES)


async def test_the_messages_wire_is_sent_the_models_own_limit_which_is_fetched_once() -> None:
    async with scripted() as (server, provider):
        server.output_limits["claude-x"] = 128_000
        request = request_for("claude-x", max_tokens=None, api_key="sk-of-this-call")
        await asyncio.gather(*(collect(provider, request) for _ in range(5)))
        await collect(provider, request)
        await collect(provider, request_for("claude-x"))
        assert [request.body["max_tokens"] for request in server.requests] == [*[128_000] * 6, 64]
        (lookup,) = server.lookups
    assert lookup.path == "/v1/models/claude-x"
    assert lookup.headers["authorization"] == "Bearer sk-of-this-call"


async def test_a_server_without_a_list_of_models_gets_the_fallback() -> None:
    async with scripted(ANTHROPIC, fallback_tokens=FALLBACK) as (server, provider):
        server.output_limits["claude-x"] = None
        await collect(provider, request_for("claude-x", max_tokens=None))
        thinking = {"thinking": {"type": "enabled", "budget_tokens": 10_000}}
        await collect(provider, request_for("claude-x", max_tokens=None, extra=thinking))
        # A budget that is not below the limit is refused by the API.
        assert [request.body["max_tokens"] for request in server.requests] == [FALLBACK, 10_000 + FALLBACK]


async def test_a_list_that_cannot_be_reached_or_is_not_one_costs_no_answer() -> None:
    odd = [b"[]", b"{", b'{"max_tokens": true}', b'{"max_tokens": 0}', b'{"max_tokens": 7, "x": "' + b"x" * 2**17]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):
            body = odd[int(head.split()[1].removeprefix(b"/v1/models/"))]
            kind = b"application/json"
        else:
            kind, body = b"text/event-stream", ANTHROPIC.frames("Hi")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
            bodies.append(await reader.readexactly(int(length.split()[1])))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: " + kind + b"\r\nconnection: close\r\n\r\n" + body)
        await writer.drain()
        writer.close()

    bodies: list[bytes] = []
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        async with provider_at(f"http://{host}:{port}") as provider:
            for number in range(len(odd)):
                await collect(provider, request_for(str(number), max_tokens=None))
    assert len(bodies) == len(odd)
    assert all(b'"max_tokens":8192' in body for body in bodies)


class Lookups:
    """A provider's response about its models; None: it cannot be reached."""

    def __init__(self, limit: int | None = 100) -> None:
        self.limit = limit
        self.count = 0

    async def fetch_limit(self) -> int:
        self.count += 1
        if self.limit is None:
            raise ConnectionError
        return self.limit


async def test_a_limit_holds_for_its_time_and_the_last_one_stands_in_for_a_lookup_that_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits, provider, passed_s = OutputLimits(FALLBACK), Lookups(), 0.0
    monkeypatch.setattr(output_limits, "_now", lambda: passed_s)
    for step_s, limit_sent, limit, count in [
        (0.0, 100, 100, 1),
        (KNOWN_S - 1, 200, 100, 1),
        (2, 200, 200, 2),
        (KNOWN_S + 1, None, 200, 3),
        (FAILED_S - 1, None, 200, 3),
        (2, None, 200, 4),
    ]:
        passed_s += step_s
        provider.limit = limit_sent
        assert (await limits.of("m", provider.fetch_limit), provider.count) == (limit, count)


async def test_a_caller_that_is_cancelled_leaves_the_lookup_to_the_others() -> None:
    limits, gate = OutputLimits(FALLBACK), asyncio.Event()

    async def fetch_limit() -> int:
        await gate.wait()
        return 100

    first, second = (asyncio.create_task(limits.of("m", fetch_limit)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    gate.set()
    assert await second == 100
    assert first.cancelled()


async def test_limits_of_more_models_than_are_kept_are_forgotten_the_oldest_first() -> None:
    limits, provider = OutputLimits(FALLBACK), Lookups()
    for number in range(MAX_MODELS + 1):
        await limits.of(str(number), provider.fetch_limit)
    await limits.of("1", provider.fetch_limit)
    assert provider.count == MAX_MODELS + 1
    await limits.of("0", provider.fetch_limit)
    assert provider.count == MAX_MODELS + 2


async def test_a_lookup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_limits, "LOOKUP_S", 0.01)
    limits = OutputLimits(FALLBACK)
    assert await limits.of("m", asyncio.Event().wait) == FALLBACK


async def test_what_a_caller_wrote_in_place_of_a_model_is_in_no_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    limits, provider = OutputLimits(FALLBACK), Lookups(limit=None)
    await limits.of("gpt-x\nforged_line of-the-caller", provider.fetch_limit)
    assert "model_limit_unknown" in caplog.text
    assert "of-the-caller" not in caplog.text
