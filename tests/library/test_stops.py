"""Stops of publications: whose stream they end, and how soon they reach a source, also beside one that does not close."""

from __future__ import annotations

import pytest

from broadcaster import Broadcaster
from broadcaster.errors import StreamExists
from broadcaster.log.redis.connect import LogConnection
from tests.library.test_publications import HeldSource


async def test_stopping_a_publication_whose_id_was_taken_leaves_the_stream_of_that_id(
    broadcaster: Broadcaster, connection: LogConnection
) -> None:
    async with Broadcaster.from_url(connection.url) as other:
        await other.publish_nowait(HeldSource("theirs"), id="answer").created()
        refused = broadcaster.publish_nowait(HeldSource("ours"), id="answer")
        with pytest.raises(StreamExists):
            await refused.created()
        await refused.stop()
        assert not (await other.read("answer")).is_over


async def test_stopping_a_publication_that_was_replaced_leaves_the_replacement(
    broadcaster: Broadcaster, connection: LogConnection
) -> None:
    replaced = broadcaster.publish_nowait(HeldSource("old"), id="answer")
    await replaced.created()
    async with Broadcaster.from_url(connection.url) as other:
        await other.publish_nowait(HeldSource("new"), id="answer", if_exists="replace").created()
        assert (await replaced.result()).abort_reason == "replaced"
        await replaced.stop()
        assert not (await other.read("answer")).is_over
