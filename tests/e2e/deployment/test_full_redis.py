"""An embedded server whose memory is full: new calls are refused, running answers survive, the doctor reports it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broadcaster.cli.doctor.redis import CHECKS, Seen
from broadcaster.cli.doctor.table import Grade
from broadcaster.client import AsyncClient
from broadcaster.client.errors import ClientError
from broadcaster.log.inspection.redis_facts import inspect
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import EmbeddedServer
from broadcaster.testing import ScriptedProvider
from tests.conftest import server_binary
from tests.support.servers.processes import open_stack

MODEL = "claude-scripted"


async def memory_grade(connection: LogConnection) -> Grade:
    """What the doctor makes of the server's memory."""
    seen = Seen(facts=await inspect(connection), url="unix://", prefix="bc", concurrency=1, max_queue=1)
    [check] = [check for check in CHECKS if check.name == "memory"]
    return check.judge(seen).grade


@pytest.mark.second_engine
async def test_a_full_server_refuses_new_calls_and_running_answers_end_whole_once_it_has_room(
    tmp_path: Path, scripted: ScriptedProvider
) -> None:
    server = EmbeddedServer(tmp_path / "redis", binary=server_binary(), max_memory_bytes=64 * 2**20)
    await server.start()
    conversation = scripted.conversation(MODEL)
    settings = {"default_model": MODEL, "lease_ttl_s": 1}
    try:
        async with (
            LogConnection(server.url) as connection,
            open_stack(tmp_path, redis_url=server.url, provider_url=scripted.base_url, **settings) as stack,
        ):
            await stack.worker()
            async with AsyncClient((await stack.front_end(redis_timeout_s=1.5)).url) as client:
                generation = await client.start("hi")
                await conversation.send_text("before, ")
                async with asyncio.timeout(20):
                    while (await client.get(generation.id)).text != "before, ":
                        await asyncio.sleep(0.02)
                await connection.redis.config_set("maxmemory", 2**10)  # as if others had filled it
                await conversation.send_text("meanwhile, ")
                with pytest.raises(ClientError) as refused:
                    await client.start("another")
                assert (refused.value.code, refused.value.status) == ("log_unavailable", 503)
                assert await memory_grade(connection) is Grade.WARN
                await connection.redis.config_set("maxmemory", 64 * 2**20)
                await conversation.send_text("after")
                await conversation.finish()
                final = await client.get(generation.id, wait_s=20)
        assert (final.status, final.text, final.attempt) == ("finished", "before, meanwhile, after", 1)
    finally:
        await server.stop()
