"""Chats: the latest answer of each, apart for each tenant, and for a time."""

from __future__ import annotations

import pytest

from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.lists.chats import Chat, Chats
from broadcaster.log.redis.connect import LogConnection

KEEP_MS = 50_000
FIRST = Chat(created_ms=1_790_000_000_000, generation_id="gen_1")
SECOND = Chat(created_ms=1_790_000_000_001, generation_id="gen_2", message_id="msg_9")


@pytest.fixture
def chats(connection: LogConnection) -> Chats:
    return Chats(connection, keep_ms=KEEP_MS)


async def test_a_chat_has_its_newest_answer(chats: Chats) -> None:
    assert await chats.latest("c", tenant="a") is None
    await chats.remember("c", FIRST, tenant="a")
    assert await chats.latest("c", tenant="a") == FIRST
    await chats.remember("c", SECOND, tenant="a")
    assert await chats.latest("c", tenant="a") == SECOND


async def test_an_older_answer_never_takes_the_place_of_a_newer_one(chats: Chats, connection: LogConnection) -> None:
    """Its request was repeated, or was slower than the next one."""
    await chats.remember("c", SECOND, tenant="a")
    await connection.redis.pexpire(connection.keys.chat("a", "c"), 1000)
    await chats.remember("c", FIRST, tenant="a")
    await chats.remember("c", SECOND, tenant="a")
    assert await chats.latest("c", tenant="a") == SECOND
    assert await connection.redis.pttl(connection.keys.chat("a", "c")) <= 1000


async def test_an_answer_is_the_latest_one_after_one_from_a_clock_that_stepped_back(
    chats: Chats, connection: LogConnection
) -> None:
    seconds, _ = await connection.redis.time()
    await chats.remember("c", Chat(created_ms=seconds * 1000 + 3_600_000, generation_id="gen_1"), tenant="a")
    now = Chat(created_ms=seconds * 1000, generation_id="gen_2")
    await chats.remember("c", now, tenant="a")
    assert await chats.latest("c", tenant="a") == now


async def test_a_chat_that_an_earlier_version_remembered_is_read_and_replaced(
    chats: Chats, connection: LogConnection
) -> None:
    await connection.redis.set(connection.keys.chat("a", "c"), b'{"generation_id":"gen_0","message_id":null}')
    assert await chats.latest("c", tenant="a") == Chat(generation_id="gen_0")
    await chats.remember("c", FIRST, tenant="a")
    assert await chats.latest("c", tenant="a") == FIRST


async def test_equal_chats_of_two_tenants_never_meet(chats: Chats) -> None:
    await chats.remember("c", FIRST, tenant="a")
    assert await chats.latest("c", tenant="b") is None
    await chats.remember("c", SECOND, tenant="b")
    assert await chats.latest("c", tenant="a") == FIRST


@pytest.mark.parametrize("chat_id", ["a/b", "a b", "{x}", "a}b", "ü:🌊", "b:c", "x" * 256])
async def test_any_text_may_name_a_chat(chats: Chats, chat_id: str) -> None:
    await chats.remember(chat_id, FIRST, tenant="a")
    assert await chats.latest(chat_id, tenant="a") == FIRST
    assert await chats.latest(chat_id + "x", tenant="a") is None


async def test_a_chat_is_forgotten_after_its_time_which_each_answer_begins_anew(
    chats: Chats, connection: LogConnection
) -> None:
    key = connection.keys.chat("a", "c")
    await chats.remember("c", FIRST, tenant="a")
    assert 0 < await connection.redis.pttl(key) <= KEEP_MS
    await connection.redis.pexpire(key, 1000)
    await chats.remember("c", SECOND, tenant="a")
    assert 1000 < await connection.redis.pttl(key) <= KEEP_MS


async def test_a_redis_that_is_away_is_reported_as_log_unavailable() -> None:
    async with LogConnection("redis://127.0.0.1:1", timeout_s=1.0) as nowhere:
        chats = Chats(nowhere, keep_ms=KEEP_MS)
        with pytest.raises(LogUnavailable):
            await chats.remember("c", FIRST, tenant="a")
        with pytest.raises(LogUnavailable):
            await chats.latest("c", tenant="a")
