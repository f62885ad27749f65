"""Texts and numbers of subclasses (markupsafe.Markup, numpy.float64) are taken as the plain ones that they are."""

from __future__ import annotations

from typing import Any

from broadcaster import Broadcaster
from broadcaster.core.events import Error
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.library.support import raw_events, renumbered


class Text(str):
    """As Django's SafeString and the texts of LangChain: ``str`` leaves it as it is."""

    __slots__ = ()

    def __str__(self) -> str:
        return self


class Half(float):
    """As numpy.float64."""


class Count(int):
    """As the integers of some databases."""


METADATA: dict[str, Any] = {"by": Text("test"), "scores": [{Text("a"): Half(0.5)}, {"n": Count(3)}]}
STORED: dict[str, Any] = {"by": "test", "scores": [{"a": 0.5}, {"n": 3}]}


async def test_a_feed_takes_them(broadcaster: Broadcaster, connection: LogConnection):
    async with broadcaster.feed("job", metadata=METADATA) as feed:
        await feed.progress(Half(0.5), Count(1), Text("rendering"))
        await feed.data(Text("scores"), METADATA)
        await feed.text(Text("Hé"))
        await feed.put(Text("llo"))
        await feed.close(Error(error_text=Text("no"), code="x"))
    assert renumbered(await raw_events(connection, "job")) == [
        b'{"type":"data-progress","data":{"done":0.5,"total":1,"message":"rendering"}}',
        b'{"type":"data-scores","data":{"by":"test","scores":[{"a":0.5},{"n":3}]}}',
        b'{"type":"text-start","id":"0"}',
        '{"type":"text-delta","id":"0","delta":"Hé"}'.encode(),
        b'{"type":"text-delta","id":"0","delta":"llo"}',
        b'{"type":"text-end","id":"0"}',
        b'{"type":"error","errorText":"no","code":"x"}',
    ]
    meta = await Streams(connection).meta("job")
    assert meta is not None
    assert meta.request == {"metadata": STORED}


async def test_a_source_may_yield_them(broadcaster: Broadcaster):
    assert (await broadcaster.publish([Text("Hé"), Text("llo")], metadata=METADATA)).text == "Héllo"


async def test_a_generation_is_started_with_them(broadcaster: Broadcaster):
    generation_id = await broadcaster.start(Text("Why?"), temperature=Half(0.5), metadata=METADATA)
    generation = await broadcaster.get(generation_id)
    assert (generation.prompt, generation.metadata) == ("Why?", STORED)
