"""What ``import broadcaster`` gives, and when."""

from __future__ import annotations

import asyncio
import gc
import uuid

import pytest

import broadcaster
from broadcaster.core.cursor import Cursor
from broadcaster.library.broadcaster import Broadcaster


def test_the_names_of_the_package_are_imported_on_first_use():
    assert (broadcaster.Broadcaster, broadcaster.Cursor) == (Broadcaster, Cursor)
    assert {"Broadcaster", "Cursor", "__version__"} <= set(dir(broadcaster))
    with pytest.raises(AttributeError, match="Brodcaster"):
        getattr(broadcaster, "Brodcaster")  # noqa: B009 - mypy would refuse the attribute


def test_a_program_that_forgets_to_close_it_may_reuse_it_on_another_loop(redis_url: str):
    async def use(one: Broadcaster, name: str) -> None:
        async with one.feed(name) as feed:
            await feed.data("x", 1)
        assert [event.cursor.seq async for event in one.events(name)] == [1, 2]

    one = Broadcaster.from_url(redis_url, key_prefix=uuid.uuid4().hex)
    for life in range(3):
        asyncio.run(use(one, f"life-{life}"))
        assert one.statistics() == (0, 0, 0)
    gc.collect()  # what redis-py had under way is found here, and not in another test


def test_a_program_that_closes_it_leaves_nothing_open(redis_url: str, recwarn: pytest.WarningsRecorder):
    async def use() -> None:
        async with Broadcaster.from_url(redis_url, key_prefix=uuid.uuid4().hex) as one:
            async with one.feed("job") as feed:
                await feed.data("x", 1)
            assert [event.cursor.seq async for event in one.events("job")] == [1, 2]

    for _ in range(3):
        asyncio.run(use())
        gc.collect()
    assert [str(each.message) for each in recwarn if each.category is ResourceWarning] == []
