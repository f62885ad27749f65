"""``/v1/streams/{id}/events?dialect=ai-sdk``: the UI message stream with ids, for readers that resume by them."""

from __future__ import annotations

import httpx2

from broadcaster.core.events import Finish, KnownEvent, Start, StartStep, TextDelta, TextEnd, TextStart
from tests.dialects.ai_sdk.ai_sdk_client import Client
from tests.support.memory.memory_world import EPOCH, MemoryWorld
from tests.support.servers.front_end import Received, listen

URL = "/v1/streams/g/events?dialect=ai-sdk"
ANSWER: list[KnownEvent] = [
    Start(message_metadata={"model": "local"}),
    StartStep(),
    TextStart(id="0"),
    TextDelta(id="0", delta="Hello "),
    TextDelta(id="0", delta="world"),
    TextEnd(id="0"),
    Finish(finish_reason="stop"),
]


def bytes_of(received: Received) -> bytes:
    return "".join(f"data: {message.data}\n\n" for message in received.messages).encode()


async def test_a_reader_that_resumes_by_any_id_receives_the_rest_and_nothing_twice(
    live_client: httpx2.AsyncClient, world: MemoryWorld
) -> None:
    world.add("g")
    world.append("g", *ANSWER)
    opening = bytes_of(await listen(live_client, URL))
    whole = Client().read(opening)
    assert [part.get("text") for part in whole.parts] == [None, "Hello world"]
    first = b""
    for k in range(1, len(ANSWER)):
        rest = await listen(live_client, URL, headers={"last-event-id": f"{EPOCH}-{k}"})
        assert rest.messages[-1].id == f"{EPOCH}-{len(ANSWER)}"
        first = first or bytes_of(rest)
        assert first.endswith(bytes_of(rest))
    start = b'data: {"type":"start","messageId":"msg_g","messageMetadata":{"model":"local"}}\n\n'
    assert Client().read(start + first).message == whole.message
    over = await live_client.get(URL, headers={"last-event-id": f"{EPOCH}-{len(ANSWER)}"})
    assert over.status_code == 204
