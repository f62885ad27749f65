"""Key names and hash shapes, on fakeredis: no server, nothing about timing or topology."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest

from broadcaster.log.jobs.queue import GROUP
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.scripts import SCRIPTS
from broadcaster.log.streams.presence import NO_VIEWERS
from broadcaster.log.streams.reader import Meta

NAMES = ("log", "meta", "lease", "viewers", "live", "control")


@pytest.fixture
def redis() -> fakeredis.FakeAsyncRedis:
    return fakeredis.FakeAsyncRedis(version=(7,))


def test_all_names_of_a_stream_share_its_hash_tag_and_all_of_the_queue_another() -> None:
    keys = KeyNames("bc")
    assert {getattr(keys, name)("gen_1") for name in NAMES} == {f"bc:{{gen_1}}:{name}" for name in NAMES}
    queue = (keys.ready, keys.ready_hi, keys.waiting, keys.turns, keys.running, keys.seen)
    for name in (*queue, keys.delayed, keys.dead, keys.open, keys.workers):
        assert name.startswith("bc:{jobs}:")
    assert keys.idem("tenant", "k") == "bc:idem:{tenant:k}"
    assert keys.recent("tenant") == "bc:recent:{tenant}"


async def test_meta_is_read_back_as_it_was_created(redis: fakeredis.FakeAsyncRedis) -> None:
    fields = ("tenant", "t", "status", "queued", "model", "m", "request", '{"max_tokens":5}', "retention_ms", 7)
    assert await SCRIPTS["create"].run(redis, ["m", "v"], 60_000, *NO_VIEWERS, 0, *fields) == 1
    stored: Any = await redis.hgetall("m")
    meta = Meta.from_hash("gen_1", stored)
    assert (meta.tenant, meta.status, meta.model, meta.retention_ms) == ("t", "queued", "m", 7)
    assert meta.request == {"max_tokens": 5}
    assert meta.created_ms > 0
    assert (meta.terminal, meta.stop, meta.worker, meta.attempts) == (None, None, None, 0)


def test_meta_of_another_version_reads_with_neutral_values() -> None:
    meta = Meta.from_hash("gen_1", {b"tenant": b"t", b"unheard_of": b"x"})
    assert (meta.status, meta.on_worker_loss, meta.on_abandon, meta.request) == ("queued", "retry", "continue", {})


async def test_enqueue_recognizes_its_job(redis: fakeredis.FakeAsyncRedis) -> None:
    keys = ["ready", "hi", "delayed", "open", "waiting", "turns", "running"]
    assert await SCRIPTS["enqueue"].run(redis, keys, "gen_1", "local", 10, 10, 0, GROUP) == 1
    assert await SCRIPTS["enqueue"].run(redis, keys, "gen_1", "local", 10, 10, 0, GROUP) == 0
    assert await redis.xlen("ready") == 1


async def test_a_stop_of_nothing_writes_nothing(redis: fakeredis.FakeAsyncRedis) -> None:
    assert await SCRIPTS["stop"].run(redis, ["meta", "control"], "stopped") == 0
    assert await redis.keys("*") == []
