"""The ends of feeds on a cluster of which a part does not answer."""

from __future__ import annotations

import pytest

from broadcaster.errors import LogUnavailable
from broadcaster.log.feeds.ends import REPLACED, FeedEnd, FeedEnds
from broadcaster.log.feeds.feeds import Feeds
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.topology.key_slots import SLOTS
from broadcaster.log.streams.reader import Streams
from tests.support.log.feed_writers import BOUNDS
from tests.support.servers.scripted_server import open_scripted

FIELDS = "tenant config status terminal terminal_id deleted_ms"
OF_ANOTHER = [b"local", b"another creation", b"queued", b"", b"", b""]


async def test_the_end_of_a_feed_is_known_while_the_server_of_another_feed_is_away() -> None:
    async with open_scripted(CLUSTER_INFO=b"cluster_state:ok", HMGET=Exception("LOADING it is away")) as server:
        server.replies["CLUSTER SLOTS"] = [[0, SLOTS - 1, [b"127.0.0.1", server.port, b"id"]]]
        url = f"redis+cluster://127.0.0.1:{server.port}"
        async with LogConnection(url, timeout_s=2.0, patience_s=0.0) as connection:
            server.replies[f"HMGET {connection.keys.meta('there')} {FIELDS}"] = OF_ANOTHER
            ends = FeedEnds(Feeds(connection, BOUNDS, streams=Streams(connection)))
            feeds = {"creation of there": "there", "creation of away": "away"}
            assert await ends.ended(feeds, tenant="local") == {"creation of there"}
            assert await ends.read("there", "creation of there", tenant="local") == FeedEnd(REPLACED, None)
            with pytest.raises(LogUnavailable):
                await ends.read("away", "creation of away", tenant="local")
