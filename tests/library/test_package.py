"""What ``import broadcaster`` gives, and when."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys

import pytest

import broadcaster
from broadcaster.core.cursor import Cursor
from broadcaster.library.broadcaster import Broadcaster


def test_its_names_come_when_they_are_asked_for():
    assert (broadcaster.Broadcaster, broadcaster.Cursor) == (Broadcaster, Cursor)
    assert {"Broadcaster", "Cursor", "__version__"} <= set(dir(broadcaster))
    with pytest.raises(AttributeError, match="Brodcaster"):
        getattr(broadcaster, "Brodcaster")  # noqa: B009 - mypy would refuse the attribute


def test_the_package_alone_brings_no_web_framework():
    program = (
        "import sys, broadcaster; broadcaster.Cursor; print([m for m in ('fastapi', 'redis') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_a_program_that_forgets_to_close_it_leaves_nothing_open(redis_url: str, recwarn: pytest.WarningsRecorder):
    async def use(one: Broadcaster) -> None:
        async with one.feed("forgotten") as feed:
            await feed.send("x", 1)
        assert [event.cursor.seq async for event in one.events("forgotten")] == [1, 2]

    for life in range(3):
        one = Broadcaster.from_url(redis_url, key_prefix=f"life-{life}")
        asyncio.run(use(one))
        gc.collect()
        assert one.statistics() == (0, 0, 0)
    assert [str(each.message) for each in recwarn if each.category is ResourceWarning] == []
