"""Blocking code publishes behind Sentinels and to a cluster as to one server: each process with its own loop."""

from __future__ import annotations

import asyncio
import multiprocessing

from broadcaster.log.redis.connect import LogConnection
from broadcaster.sync import Publisher
from tests.support.log.log_world import World

FEEDS = 6
FORK_S = 30.0


def _publish(url: str, name: str) -> None:
    with Publisher.from_url(url, timeout_s=20.0) as publisher:
        for number in range(FEEDS):
            with publisher.feed(f"{name}-{number}") as feed:
                feed.data("n", {"number": number})


async def test_a_publisher_and_its_forked_child_each_write_their_feeds(connection: LogConnection) -> None:
    world = World(connection)

    await asyncio.to_thread(_publish, connection.url, "parent")
    child = multiprocessing.get_context("fork").Process(target=_publish, args=(connection.url, "child"))
    child.start()
    await asyncio.to_thread(child.join, FORK_S)

    assert child.exitcode == 0
    for name in ("parent", "child"):
        for number in range(FEEDS):
            assert await world.seqs(f"{name}-{number}") == [1, 2]
