"""The inspection of a real server: what it is, how it is set, what of it we may not see."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.inspection.redis_facts import RedisFacts, _engine, inspect
from broadcaster.log.inspection.worst import BufferLimit
from broadcaster.log.redis.connect import LogConnection
from tests.support.log.log_world import World
from tests.support.log.valkey import start_valkey


async def facts_of(url: str, prefix: str = "bc") -> RedisFacts:
    async with LogConnection(url, prefix=prefix, timeout_s=3.0) as connection:
        return await inspect(connection)


async def test_a_server_is_seen_as_it_is_set(tmp_path: Path) -> None:
    options = ["--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru", "--timeout", "7", "--tcp-keepalive", "9"]
    limit = ["--client-output-buffer-limit", "pubsub 64mb 16mb 30"]
    with start_valkey(tmp_path, appendonly=True, options=[*options, *limit]) as server:
        facts = await facts_of(server.url)
    assert facts.engine in ("valkey", "redis")
    assert facts.version >= (7, 0)
    assert facts.role == "master"
    assert (facts.max_bytes, facts.policy) == (50 * 2**20, "allkeys-lru")
    assert facts.used_bytes
    assert facts.system_bytes
    assert (facts.has_append_file, facts.has_snapshots, facts.write_fault) == (True, False, None)
    assert facts.pubsub_limit == BufferLimit(64 * 2**20, 16 * 2**20, 30)
    assert (facts.idle_timeout_s, facts.keepalive_s) == (7, 9)
    assert (facts.script_fault, facts.push_fault) == (None, None)
    assert 0 < facts.round_trip_ms < 1000
    assert abs(facts.clock_ahead_ms) < 1000


async def test_snapshots_are_seen(tmp_path: Path) -> None:
    with start_valkey(tmp_path, options=["--save", "900 1"]) as server:
        facts = await facts_of(server.url)
    assert (facts.has_append_file, facts.has_snapshots) == (False, True)


async def test_waiting_jobs_and_live_processes_are_counted(connection: LogConnection) -> None:
    world = World(connection, max_attempts=1)
    await world.queue.create_group()
    await world.die()
    await world.create()
    now_ms = int(time.time() * 1000)
    await world.redis.zadd(world.keys.workers, {"alive": now_ms + 60_000, "gone": now_ms - 60_000})
    facts = await inspect(connection)
    assert (facts.streams, facts.streams_are_all) == (2, True)
    assert (facts.open_generations, facts.waiting, facts.workers, facts.dead_today) == (1, 1, 1, 1)


async def test_another_prefix_is_another_world(connection: LogConnection) -> None:
    await World(connection).create()
    facts = await facts_of(connection.url, prefix="other")
    assert (facts.streams, facts.open_generations) == (0, 0)


async def test_old_letters_do_not_count_as_todays(connection: LogConnection) -> None:
    await connection.redis.xadd(connection.keys.dead, {"id": "gen_x", "reason": "r"}, id="1-1")
    assert (await inspect(connection)).dead_today == 0


async def test_a_managed_server_that_hides_its_settings_is_inspected_all_the_same(tmp_path: Path) -> None:
    with start_valkey(tmp_path, options=["--rename-command", "CONFIG", ""]) as server:
        facts = await facts_of(server.url)
    assert facts.policy == "noeviction"  # from INFO
    hidden = (facts.pubsub_limit, facts.idle_timeout_s, facts.keepalive_s, facts.has_snapshots)
    assert hidden == (None, None, None, None)
    assert facts.push_fault is None


async def test_without_info_and_scan_the_rest_is_still_seen(tmp_path: Path) -> None:
    hidden = ["--rename-command", "INFO", "", "--rename-command", "SCAN", ""]
    with start_valkey(tmp_path, options=hidden) as server:
        facts = await facts_of(server.url)
    assert (facts.engine, facts.policy, facts.has_append_file, facts.role) == (None, None, None, None)
    assert facts.streams_are_all is False
    assert facts.pubsub_limit is not None


async def test_scripts_and_pushes_that_are_not_allowed_are_reported(tmp_path: Path) -> None:
    hidden = [option for name in ("EVAL", "EVALSHA") for option in ("--rename-command", name, "")]
    with start_valkey(tmp_path, options=hidden) as server:
        facts = await facts_of(server.url)
    assert facts.script_fault is not None
    assert "unknown command" in facts.script_fault
    assert facts.push_fault is None


async def test_a_front_end_that_cannot_subscribe_is_reported(tmp_path: Path) -> None:
    with start_valkey(tmp_path, options=["--rename-command", "SSUBSCRIBE", ""]) as server:
        facts = await facts_of(server.url)
    assert facts.push_fault is not None
    assert "refused" in facts.push_fault


async def test_a_user_without_rights_is_a_set_up_error(tmp_path: Path) -> None:
    with start_valkey(tmp_path, port=0, options=["--user", "poor", "on", ">pw", "+ping", "+info", "+hello"]) as server:
        with pytest.raises(SetupError, match="rights"):
            await facts_of(server.url.replace("redis://", "redis://poor:pw@"))


async def test_a_wrong_password_is_a_set_up_error(tmp_path: Path) -> None:
    with start_valkey(tmp_path, port=0, options=["--requirepass", "right"]) as server:
        with pytest.raises(SetupError, match="refuses us"):
            await facts_of(server.url)
        facts = await facts_of(server.url.replace("redis://", "redis://:right@"))
        assert facts.push_fault is None


async def test_a_server_that_is_away_or_hangs_is_unavailable(tmp_path: Path) -> None:
    with start_valkey(tmp_path) as server:
        url = server.url
        server.pause()
        async with LogConnection(url, timeout_s=0.2) as connection:
            with pytest.raises(LogUnavailable):
                await inspect(connection)
    with pytest.raises(LogUnavailable):
        await facts_of(url)


async def test_a_server_that_is_not_redis_is_a_set_up_error() -> None:
    async def speak_http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(speak_http, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SetupError, match="not a Redis"):
            await facts_of(f"redis://127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("info", "engine", "version"),
    [
        ({"redis_version": "7.0.15"}, "redis", (7, 0, 15)),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, "valkey", (9, 1, 2)),
        ({"redis_version": "7.4.0", "dragonfly_version": "df-v1.2.3"}, "dragonfly", (1, 2, 3)),
        ({}, None, ()),
    ],
)
def test_the_engine_is_named_by_its_own_version_field(info, engine, version) -> None:
    assert _engine(info) == (engine, version)
