"""Providers that answer without end: what a call reads of it, for how long, and how it ends, on every wire."""

from __future__ import annotations

import asyncio
import json
import resource
from pathlib import Path
from typing import Any

import pytest

from broadcaster.client import AsyncClient
from broadcaster.errors import ProviderFailed
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import ScriptedProvider
from tests.attacks.floods.hostile_provider import HostileProvider, hostile_provider
from tests.support.servers.processes import open_stack
from tests.worker.providers.provider_support import CHAT, Wire, failing, on_every_wire, provider_at, request_for

MB = 2**20


async def failure_of(server: HostileProvider, on: Wire, model: str, **bounds: Any) -> ProviderFailed:
    async with provider_at(server.base_url + on.prefix, on, **bounds) as provider:
        failure, _ = await failing(provider, request_for(model))
    return failure


@on_every_wire
async def test_an_endless_error_body_is_read_up_to_its_bound(on: Wire):
    async with hostile_provider() as server, asyncio.timeout(20):
        failure = await failure_of(server, on, "endless-error", error_timeout_s=60)
    assert (failure.reason, failure.retryable) == ("provider_bad_request", False)
    assert "HTTP 400" in failure.detail
    assert server.sent_bytes < 16 * MB  # what the sockets hold; without a bound it is all that comes


@on_every_wire
async def test_a_slow_error_body_is_read_for_its_time_and_no_longer(on: Wire):
    async with hostile_provider() as server, asyncio.timeout(20):
        failure = await failure_of(server, on, "slow-error", error_timeout_s=0.2)
    assert "HTTP 400" in failure.detail


@on_every_wire
async def test_bodies_are_requested_without_a_coding_and_not_decompressed(on: Wire):
    async with hostile_provider(gzip_bytes=2 * MB) as server, asyncio.timeout(20):
        refused = await failure_of(server, on, "gzip-error")
        streamed = await failure_of(server, on, "gzip-stream")
    assert set(server.encodings) == {"identity"}
    assert refused.reason == "provider_bad_request"
    assert "no such thing" not in refused.detail
    assert streamed.reason == "provider_bad_data"
    assert "content coding" in streamed.detail


@on_every_wire
async def test_comments_without_an_event_are_silence(on: Wire):
    async with hostile_provider() as server, asyncio.timeout(20):
        failure = await failure_of(server, on, "slow-comments", read_timeout_s=0.3)
    assert failure.reason == "provider_timeout"


@pytest.mark.parametrize("model", ["comments", "fields", "short-lines", "values"])
async def test_a_stream_without_an_event_is_bounded_in_bytes_and_values(model: str):
    before = _peak_bytes()
    async with hostile_provider() as server, asyncio.timeout(60):
        failure = await failure_of(server, CHAT, model, read_timeout_s=60)
    assert failure.reason == "provider_bad_data"
    assert server.sent_bytes < 40 * MB
    assert _peak_bytes() - before < 150 * MB


async def test_interim_responses_do_not_prolong_the_wait_for_an_answer(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worker.providers.base.CONNECT_TIMEOUT_S", 0.1)
    async with hostile_provider() as server, asyncio.timeout(20):
        failure = await failure_of(server, CHAT, "interim", read_timeout_s=0.3)
    assert failure.reason == "provider_timeout"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("wire", ["openai", "anthropic"])
async def test_error_bodies_of_any_size_cost_a_worker_neither_memory_nor_a_lease(
    wire: str, tmp_path: Path, connection: LogConnection
):
    async with hostile_provider(gzip_bytes=150 * MB) as server, ScriptedProvider() as good:
        prefix = "" if wire == "anthropic" else "/v1"
        providers = {"evil": {"wire": wire, "base_url": server.base_url + prefix}}
        providers["good"] = {"wire": wire, "base_url": good.base_url + prefix}
        routes = json.dumps({"re:.*-error": "evil", "*": "good"})
        settings = {"providers": json.dumps(providers), "routes": routes, "default_model": "m", "lease_ttl_s": 2}
        url = connection.url
        async with open_stack(tmp_path, redis_url=url, provider_url="http://127.0.0.1:9", **settings) as stack:
            worker, front_end = await stack.worker(), await stack.front_end()
            async with AsyncClient(front_end.url) as client:
                assert (await client.get((await client.start("hi")).id, wait_s=30)).text
                before = _reset_peak_bytes(worker.pid)
                for model in ("endless-error", "gzip-error"):
                    final = await client.get((await client.start("hi", model=model)).id, wait_s=30)
                    assert (final.status, final.error and final.error.code) == ("failed", "provider_bad_request")
                    assert final.attempt == 1
            assert _peak_of(worker.pid) - before < 20 * MB
    assert server.calls == ["endless-error", "gzip-error"]


def _reset_peak_bytes(pid: int) -> int:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # from here on VmHWM is the peak since now
    return _peak_of(pid)


def _peak_of(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
