"""What one tenant queues and watches delays no other tenant; a stop frees its place (the whole: queue_flood.py)."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from broadcaster.log.redis.connect import LogConnection
from tests.attacks.floods.queue_flood import LONG, Shared, open_shared

WORKERS: Final = 2
SLOTS: Final = 4
MAX_QUEUE: Final = 60
MAX_VIEWERS: Final = 60
PLACES_OF_A: Final = 54
QUEUED_OF_A: Final = 54
RUNNING_OF_A: Final = WORKERS * (SLOTS - 1)
# Without turns and shares tenant b never begins; the machine that runs the tests may be slow for a moment.
LATE_S: Final = 1.0


@pytest.fixture
async def shared(tmp_path: Path, connection: LogConnection) -> AsyncIterator[Shared]:
    async with open_shared(
        tmp_path,
        redis_url=connection.url,
        workers=WORKERS,
        slots=SLOTS,
        max_queue=MAX_QUEUE,
        max_viewers=MAX_VIEWERS,
    ) as opened:
        yield opened


async def test_a_tenants_first_token_does_not_wait_for_another_tenants_queue_and_viewers(shared: Shared) -> None:
    await shared.first_token_s(times=1)
    usual_s = statistics.median(await shared.first_token_s(times=5))

    accepted = await shared.flood(QUEUED_OF_A + RUNNING_OF_A + 5)
    await shared.until_running(RUNNING_OF_A)
    assert len(accepted) >= QUEUED_OF_A
    async with shared.every_place(accepted[-1]) as places:
        flooded_s = statistics.median(await shared.first_token_s(times=5))
        assert len(places) == PLACES_OF_A
    assert flooded_s <= 2 * usual_s + LATE_S

    keys, redis = shared.connection.keys, shared.connection.redis
    async with shared.http("a") as http:
        await shared.flood(QUEUED_OF_A)  # whatever had begun meanwhile
        refused = await http.post("/v1/generations", json={"prompt": "hi", "model": LONG})
        assert (refused.status_code, refused.json()["code"]) == (429, "tenant_limit")
        assert int(refused.headers["retry-after"]) >= 1
        before = await redis.xlen(keys.ready), await redis.zcard(keys.open)
        assert (await http.post(f"/v1/generations/{accepted[-1]}/stop")).is_success
        assert (await redis.xlen(keys.ready), await redis.zcard(keys.open)) == (before[0] - 1, before[1] - 1)
        assert (await http.post("/v1/generations", json={"prompt": "hi", "model": LONG})).is_success
