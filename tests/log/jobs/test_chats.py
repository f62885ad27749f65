"""Chats: the latest answer of each, apart for each tenant, and for a time."""

from __future__ import annotations

import pytest

from broadcaster.core.status import META_OUTLIVES_LOG_MS
from broadcaster.errors import LogUnavailable
from broadcaster.log.jobs.lists.chats import Chat, Chats
from broadcaster.log.redis.connect import LogConnection

OPEN_MS = 50_000
RETENTION_MS = 30_000
KEEP_MS = OPEN_MS + RETENTION_MS + META_OUTLIVES_LOG_MS
DAY_MS = 86_400_000
FIRST = Chat(created_ms=1_790_000_000_000, generation_id="gen_1")
SECOND = Chat(created_ms=1_790_000_000_001, generation_id="gen_2", message_id="msg_9")


@pytest.fixture
def chats(connection: LogConnection) -> Chats:
    return Chats(connection, open_ms=OPEN_MS)


async def remember(
    chats: Chats, chat: Chat, *, chat_id: str = "c", tenant: str = "a", retention_ms: int = RETENTION_MS
) -> None:
    await chats.remember(chat_id, chat, tenant=tenant, retention_ms=retention_ms)


async def test_a_chat_has_its_newest_answer(chats: Chats) -> None:
    assert await chats.latest("c", tenant="a") is None
    await remember(chats, FIRST)
    assert await chats.latest("c", tenant="a") == FIRST
    await remember(chats, SECOND)
    assert await chats.latest("c", tenant="a") == SECOND


async def test_an_older_answer_never_takes_the_place_of_a_newer_one(chats: Chats, connection: LogConnection) -> None:
    """Its request was repeated, or was slower than the next one."""
    await remember(chats, SECOND)
    await connection.redis.pexpire(connection.keys.chat("a", "c"), 1000)
    await remember(chats, FIRST)
    await remember(chats, SECOND)
    assert await chats.latest("c", tenant="a") == SECOND
    assert await connection.redis.pttl(connection.keys.chat("a", "c")) <= 1000


async def test_an_answer_is_the_latest_one_after_one_from_a_clock_that_stepped_back(
    chats: Chats, connection: LogConnection
) -> None:
    seconds, _ = await connection.redis.time()
    await remember(chats, Chat(created_ms=seconds * 1000 + 3_600_000, generation_id="gen_1"))
    now = Chat(created_ms=seconds * 1000, generation_id="gen_2")
    await remember(chats, now)
    assert await chats.latest("c", tenant="a") == now


async def test_a_chat_that_an_earlier_version_remembered_is_read_and_replaced(
    chats: Chats, connection: LogConnection
) -> None:
    await connection.redis.set(connection.keys.chat("a", "c"), b'{"generation_id":"gen_0","message_id":null}')
    assert await chats.latest("c", tenant="a") == Chat(generation_id="gen_0")
    await remember(chats, FIRST)
    assert await chats.latest("c", tenant="a") == FIRST


async def test_equal_chats_of_two_tenants_never_meet(chats: Chats) -> None:
    await remember(chats, FIRST)
    assert await chats.latest("c", tenant="b") is None
    await remember(chats, SECOND, tenant="b")
    assert await chats.latest("c", tenant="a") == FIRST


@pytest.mark.parametrize("chat_id", ["a/b", "a b", "{x}", "a}b", "ü:🌊", "b:c", "x" * 256])
async def test_any_text_may_name_a_chat(chats: Chats, chat_id: str) -> None:
    await remember(chats, FIRST, chat_id=chat_id)
    assert await chats.latest(chat_id, tenant="a") == FIRST
    assert await chats.latest(chat_id + "x", tenant="a") is None


async def test_a_chat_is_forgotten_after_its_time_which_each_answer_begins_anew(
    chats: Chats, connection: LogConnection
) -> None:
    key = connection.keys.chat("a", "c")
    await remember(chats, FIRST)
    assert 0 < await connection.redis.pttl(key) <= KEEP_MS
    await connection.redis.pexpire(key, 1000)
    await remember(chats, SECOND)
    assert 1000 < await connection.redis.pttl(key) <= KEEP_MS


async def test_a_chat_is_known_for_as_long_as_its_answer_is_open_and_stored(
    chats: Chats, connection: LogConnection
) -> None:
    await remember(chats, FIRST, retention_ms=DAY_MS)
    longest_ms = OPEN_MS + DAY_MS + META_OUTLIVES_LOG_MS
    assert longest_ms - 10_000 < await connection.redis.pttl(connection.keys.chat("a", "c")) <= longest_ms


async def test_a_redis_that_is_away_is_reported_as_log_unavailable() -> None:
    async with LogConnection("redis://127.0.0.1:1", timeout_s=1.0) as nowhere:
        chats = Chats(nowhere, open_ms=OPEN_MS)
        with pytest.raises(LogUnavailable):
            await remember(chats, FIRST)
        with pytest.raises(LogUnavailable):
            await chats.latest("c", tenant="a")
