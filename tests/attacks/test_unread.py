"""Connections that read nothing cost the front-end a slice each, whatever they requested (the whole: unread.py)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from broadcaster.log.redis.connect import LogConnection
from tests.attacks.unread import DELTA, FEED, growth_bytes
from tests.attacks.world import Target, open_target, write_feed

VIEWERS: Final = 30
MEGABYTES: Final = 4
# A few copies of the snapshot while it is made; a copy for each viewer would be 120 MB and more.
BOUND_BYTES: Final = 60 * 2**20


@pytest.fixture(params=[False, True], ids=["own-runner", "stock-uvicorn"])
async def target(tmp_path: Path, connection: LogConnection, request: pytest.FixtureRequest) -> AsyncIterator[Target]:
    async with open_target(tmp_path, redis_url=connection.url, is_stock=request.param) as opened:
        await write_feed(opened, FEED, count=MEGABYTES * 1000, delta=lambda _: DELTA)
        yield opened


async def test_a_front_end_holds_no_copy_of_unread_frames_for_each_connection(target: Target) -> None:
    queries = ("dialect=native&replay=snapshot", "dialect=openai-responses&replay=events")
    grown = {each: await growth_bytes(target, f"/v1/streams/{FEED}/events?{each}", viewers=VIEWERS) for each in queries}
    assert max(grown.values()) < BOUND_BYTES, grown
