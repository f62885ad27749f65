"""Chats: the latest answer of each, apart for each tenant, and for a time."""

from __future__ import annotations

import pytest

from broadcaster.errors import LogUnavailable
from broadcaster.log.chats import Chat, Chats
from broadcaster.log.connect import LogConnection

KEEP_MS = 50_000
FIRST = Chat(generation_id="gen_1")
SECOND = Chat(generation_id="gen_2", message_id="msg_9")


@pytest.fixture
def chats(connection: LogConnection) -> Chats:
    return Chats(connection, keep_ms=KEEP_MS)


async def test_a_chat_has_its_newest_answer(chats: Chats) -> None:
    assert await chats.latest("c", tenant="a") is None
    await chats.remember("c", FIRST, tenant="a")
    assert await chats.latest("c", tenant="a") == FIRST
    await chats.remember("c", SECOND, tenant="a")
    assert await chats.latest("c", tenant="a") == SECOND


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


async def test_a_redis_that_is_away_is_told_as_that() -> None:
    async with LogConnection.open("redis://127.0.0.1:1", timeout_s=1.0) as nowhere:
        chats = Chats(nowhere, keep_ms=KEEP_MS)
        with pytest.raises(LogUnavailable):
            await chats.remember("c", FIRST, tenant="a")
        with pytest.raises(LogUnavailable):
            await chats.latest("c", tenant="a")
