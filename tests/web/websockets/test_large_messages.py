"""A message that is larger than a slice: in fragments on our own runner, whole and counted on any other server."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from broadcaster.core.events import Finish, TextDelta
from broadcaster.web.guards.json_ledger import COPIES, JsonHold, JsonLedger
from broadcaster.web.viewing.handshake import Handshake
from broadcaster.web.viewing.sse import MAX_CHUNK_BYTES
from broadcaster.web.viewing.websocket import WholeMessages
from tests.support.apps.mounting import Mounted, create_host, serve_host
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import DEADLINE_S, own_app, served
from tests.support.servers.websocket_client import Conversation, conversation, follow_over_websocket, transport_of

# Characters of one, two and four bytes, so that slices cut some of them.
LARGE = "0é\U0001f600" * 2**16
QUERIES = ["", "?replay=snapshot"]


def fill(world: MemoryWorld, *, count: int = 1, text: str = LARGE) -> None:
    world.add("gen_1")
    world.append("gen_1", *(TextDelta(id="0", delta=text) for _ in range(count)), Finish())


def text_of(talk: Conversation) -> str:
    snapshots = [message["data"]["text"] for message in talk.messages if message.get("event") == "hub.snapshot"]
    return "".join(snapshots) or talk.text


@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("query", QUERIES)
async def test_our_runner_sends_it_in_fragments_of_a_slice_each(
    world: MemoryWorld, query: str, compression: str | None
) -> None:
    fill(world)
    async with memory_services(world) as services, served(own_app(services), services) as client:
        url = f"{client.base_url}".rstrip("/") + f"/v1/streams/gen_1/ws{query}"
        talk = await follow_over_websocket(url, compression=compression)
    assert (text_of(talk), talk.code) == (LARGE, 1000)
    assert MAX_CHUNK_BYTES // 2 < talk.most_bytes <= MAX_CHUNK_BYTES + 3


@pytest.mark.parametrize("query", QUERIES)
async def test_another_server_sends_it_whole_and_nothing_stays_counted(query: str) -> None:
    found, ledger = Mounted(), JsonLedger()
    found.changes = {"json_ledger": ledger}
    fill(found.world, count=2)
    async with serve_host(create_host(("/llm", found.router))) as client:
        talk = await follow_over_websocket(f"{client.base_url}".rstrip("/") + f"/llm/v1/streams/gen_1/ws{query}")
        assert (text_of(talk), talk.code, ledger.used_bytes) == (LARGE * 2, 1000, 0)
        assert talk.most_bytes > len(LARGE)


async def test_another_server_counts_it_until_the_client_has_taken_it() -> None:
    """A reader that takes nothing has its large message counted, and the next reader finds no room for its own."""
    found, text = Mounted(), "x" * 2**22
    counted = 2 * COPIES * len(text)  # a snapshot holds the text twice: whole, and in its part
    ledger = JsonLedger(max_bytes=counted * 3 // 2)
    found.changes = {"json_ledger": ledger}
    fill(found.world, text=text)
    async with serve_host(create_host(("/llm", found.router))) as client:
        url = f"{client.base_url}".rstrip("/") + "/llm/v1/streams/gen_1/ws?replay=snapshot"
        async with conversation(url, max_queue=1) as silent, asyncio.timeout(DEADLINE_S):
            transport_of(silent).pause_reading()
            while ledger.used_bytes < counted:
                await asyncio.sleep(0.001)
            refused = await follow_over_websocket(url)
            assert (refused.code, refused.reason, "hub.snapshot" in refused.names) == (1013, "limit", False)
            assert counted <= ledger.used_bytes <= ledger.max_bytes
            transport_of(silent).resume_reading()
            await silent.until_over()
            assert (text_of(silent), silent.code) == (text, 1000)
        late = await follow_over_websocket(url)
        assert (text_of(late), late.code, ledger.used_bytes) == (text, 1000, 0)


async def test_a_large_message_is_counted_beside_the_next_one_until_that_is_on_its_way() -> None:
    ledger, counted = JsonLedger(), list[int]()

    async def send(_: Message) -> None:
        counted.append(ledger.used_bytes)

    async def receive() -> Message:
        raise AssertionError("nothing is received here")

    handshake = Handshake(receive, send, can_refuse=True, has_fragments=False)
    whole = WholeMessages(handshake, JsonHold(ledger, "a"))
    for text in ("x" * 1000, "y" * 10):
        await whole.send_text(text, is_last=False)
        await whole.send_text("", is_last=True)
    assert counted == [COPIES * 1000, COPIES * 1010]
    assert ledger.used_bytes == COPIES * 10
    await whole.send_text("small")
    assert (counted[-1], ledger.used_bytes) == (COPIES * 10, 0)
