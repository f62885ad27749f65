"""A client whose cursor is void drops what it holds before it receives the answer, in every dialect that has ids.

The clients here behave as an EventSource: they reconnect with the last id that they were sent, and without one where it
is empty.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.core.sse import SseDecoder, SseMessage
from broadcaster.dialects import DIALECTS, NATIVE, NATIVE_SNAPSHOT
from broadcaster.hub.hub import Hub
from broadcaster.hub.replay.resolve import Finished
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.hub.support import finish, turns
from tests.support.memory.fake_tail import FakeTail

NEW_ATTEMPT: Final = "new_attempt"
Reading = Callable[[SseMessage, dict[str, Any]], tuple[bool, str]]


def deltas_of(epoch: int, first_seq: int, *texts: str) -> list[Entry]:
    deltas = (json.dumps({"type": "text-delta", "id": "t", "delta": each_text}).encode() for each_text in texts)
    return [Entry(epoch, first_seq + at, delta) for at, delta in enumerate(deltas)]


# Of a message: whether the client must drop all that it holds, and the text in it.
CLIENTS: Final[dict[str, Reading]] = {
    "delta": lambda _, fields: (fields.get("code") == NEW_ATTEMPT, fields.get("delta", "")),
    "named": lambda message, fields: (message.event == "retry", fields["delta"] if message.event == "content" else ""),
    "parts": lambda _, fields: (fields.get("code") == NEW_ATTEMPT, fields.get("textDelta", "")),
    "ai-sdk": lambda _, fields: ("begins again" in fields.get("errorText", ""), fields.get("delta", "")),
    "ai-sdk-7": lambda _, fields: ("begins again" in fields.get("errorText", ""), fields.get("delta", "")),
    "ag-ui": lambda _, fields: (fields.get("code") == NEW_ATTEMPT, fields.get("delta", "")),
}


@dataclass
class Client:
    """It reads one stream over as many connections as it takes."""

    hub: Hub
    name: str
    after: str = ""
    text: str = ""
    drops: int = 0
    messages: list[SseMessage] = field(default_factory=list)
    is_over: bool = False  # the next connection is answered with 204
    viewer: Viewer | None = None
    _decoder: SseDecoder = field(default_factory=SseDecoder)

    def __post_init__(self) -> None:
        if self.after:
            self._decoder.decode(f"id: {self.after}\n\n".encode())

    @property
    def last_id(self) -> str:
        return self._decoder.last_event_id

    async def connect(self) -> None:
        if self.viewer is not None:
            self.viewer.leave()
        dialect = DIALECTS[self.name]
        cursor = Cursor.parse(self.last_id) if self.last_id else None
        viewer = await self.hub.join("g", cursor=cursor, timeout_s=5, dialect=dialect)
        self.is_over = isinstance(viewer, Finished)
        self.viewer = None if isinstance(viewer, Finished) else viewer
        self._decoder.flush()

    async def read(self, *, until_dropped: bool = False) -> None:
        """What there is now, over a connection more where a lost attempt ends one."""
        for _ in range(30):
            await turns(1)
            if self.viewer is not None and not (until_dropped and self.drops):
                self.take(self.viewer.pull(2**16))
                if self.viewer.stop_reason is StopReason.NEW_ATTEMPT:
                    await self.connect()

    async def next_body(self) -> bytes:
        """What there is on a new connection."""
        await self.connect()
        body = b""
        for _ in range(30):
            await turns(1)
            body += self.viewer.pull(2**16) if self.viewer is not None else b""
        return body

    def take(self, body: bytes) -> None:
        """Read these bytes."""
        for message in self._decoder.decode(body):
            self._take(message)

    def _take(self, message: SseMessage) -> None:
        self.messages.append(message)
        if message.data == "[DONE]":
            return
        must_drop, text = CLIENTS[self.name](message, json.loads(message.data))
        self.drops += must_drop
        self.text = "" if must_drop else self.text + text


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("void", ["3-2", "5-9", "9-9"], ids=["reset", "rewound", "unknown"])
async def test_a_client_with_a_void_cursor_drops_its_text_once_and_then_holds_the_answer(
    hub: Hub, tail: FakeTail, name: str, void: str
) -> None:
    tail.append("g", *deltas_of(5, 1, "Once ", "upon "), *deltas_of(6, 3, "a "))
    client = Client(hub, name, after=void, text="Void text. ")

    await client.connect()
    await client.read()
    assert (client.drops, client.text) == (1, "Once upon a ")
    for _ in range(3):
        await client.connect()
        await client.read()
    tail.append("g", *deltas_of(6, 4, "time"), finish(6, 5))
    await client.read()
    assert (client.drops, client.text) == (1, "Once upon a time")
    await client.connect()
    assert client.is_over


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_that_is_cut_before_the_snapshot_comes_back_without_the_void_id(
    hub: Hub, tail: FakeTail, name: str
) -> None:
    tail.append("g", *deltas_of(5, 1, "Once ", "upon "))
    client = Client(hub, name, after="3-2", text="Void text. ")
    await client.connect()

    await client.read(until_dropped=True)
    assert (client.drops, client.text, client.last_id) == (1, "", "")
    await client.connect()
    await client.read()

    assert (client.drops, client.text) == (1, "Once upon ")


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_whose_text_becomes_void_while_it_reads_ends_with_the_newer_text(
    hub: Hub, tail: FakeTail, name: str
) -> None:
    tail.append("g", *deltas_of(5, 1, "Once ", "upon ", "a "))
    client = Client(hub, name)
    await client.connect()
    await client.read()
    tail.sinks["g"].rewound(Cursor(5, 1))
    tail.log["g"] = tail.log["g"][:1]
    tail.append("g", *deltas_of(6, 2, "more "))
    await client.read()
    assert client.viewer is not None
    assert client.viewer.is_over
    farewell = json.loads(client.messages[-1].data)
    assert farewell.get("retry", False) is (name == "named")

    await client.connect()
    await client.read()

    assert client.text == "Once more "
    assert client.drops >= 1


@pytest.mark.parametrize("name", sorted(CLIENTS.keys() - {"ag-ui"}))
async def test_a_cursor_whose_entry_was_trimmed_makes_no_client_drop_its_text(
    hub: Hub, tail: FakeTail, name: str
) -> None:
    tail.log["g"].extend(deltas_of(5, 4, "a ", "time"))
    client = Client(hub, name, after="5-2", text="Once upon ")

    await client.connect()
    await client.read()

    assert (client.drops, client.text) == (0, "Once upon a time")


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("is_first", [True, False], ids=["before the text", "within the text"])
async def test_a_client_that_is_cut_at_a_snapshot_with_a_gap_receives_its_text_once(
    hub: Hub, tail: FakeTail, name: str, is_first: bool
) -> None:
    past = [] if is_first else deltas_of(5, 1, "Once ", "upon ")
    tail.append("g", *past)
    whole = Client(hub, name)
    await whole.connect()
    await whole.read()
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(5, 7), len(past) + 1, 7))
    tail.append("g", *deltas_of(5, 8, "a ", "time"))
    text = "".join(delta for delta in ("Once upon ", "a time") if past or delta == "a time")

    body = await Client(hub, name).next_body()
    blocks = [block + b"\n\n" for block in body.split(b"\n\n")[:-1]]
    ids = [Cursor.parse(block.partition(b"id: ")[2].split()[0].decode()) for block in blocks if b"id: " in block]
    assert ids == sorted(ids)
    assert ids[-1] == Cursor(5, 9)
    for count in range(1, len(blocks) + 1):
        client = Client(hub, name)
        client.take(b"".join(blocks[:count]))
        client.text = client.text if client.last_id else ""  # it has no place to continue from: it begins anew
        await client.connect()
        await client.read()
        assert client.text == text, blocks[:count]


async def test_a_native_snapshot_stands_behind_its_gap(hub: Hub, tail: FakeTail) -> None:
    tail.log["g"].extend(deltas_of(5, 4, "a ", "time"))
    viewer = await hub.join("g", cursor=None, timeout_s=5, dialect=NATIVE_SNAPSHOT)
    assert isinstance(viewer, Viewer)
    decoder, messages = SseDecoder(), []
    for _ in range(10):
        messages += decoder.decode(viewer.pull(2**16))
        await turns(1)
    assert [(message.event, message.id) for message in messages] == [
        ("hub.hello", ""),
        ("hub.gap", "5-3"),
        ("hub.snapshot", "5-5"),
    ]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("openai-chat", '"code":"new_attempt"'),
        ("anthropic", '"overloaded_error"'),
        ("openai-responses", "response.created"),
    ],
)
async def test_an_sdk_without_ids_is_sent_its_error_or_a_new_beginning(
    hub: Hub, tail: FakeTail, name: str, first: str
) -> None:
    tail.append("g", *deltas_of(5, 1, "Once ", "upon "))
    dialect = DIALECTS[name]
    viewer = await hub.join("g", cursor=Cursor(3, 2), timeout_s=5, dialect=dialect)
    assert isinstance(viewer, Viewer)

    sent = b""
    for _ in range(10):
        sent += viewer.pull(2**16)
        await turns(1)

    blocks = sent.decode().split("\n\n")
    assert first in blocks[0]
    assert "id:" not in sent.decode()


async def test_a_snapshot_comes_behind_the_gap_that_voids_what_the_client_holds(hub: Hub, tail: FakeTail) -> None:
    tail.append("g", *deltas_of(5, 1, "Once ", "upon "))
    viewer = await hub.join("g", cursor=Cursor(3, 2), timeout_s=5, dialect=NATIVE_SNAPSHOT)
    assert isinstance(viewer, Viewer)
    decoder, messages = SseDecoder(), []
    for _ in range(10):
        messages += decoder.decode(viewer.pull(2**16))
        await turns(1)

    assert [message.event for message in messages][:3] == ["hub.hello", "hub.gap", "hub.snapshot"]
    assert json.loads(messages[1].data) == {"reason": "reset", "from": 1, "to": 2}
    assert messages[1].id == "5-0"
    assert json.loads(messages[2].data)["text"] == "Once upon "


@pytest.mark.parametrize("is_waiting", [False, True], ids=["late viewer", "waiting viewer"])
@pytest.mark.parametrize("name", [name for name in DIALECTS if DIALECTS[name] is not NATIVE])
async def test_an_error_that_is_all_that_redis_kept_reaches_the_viewers_of_every_dialect(
    hub: Hub, tail: FakeTail, name: str, is_waiting: bool
) -> None:
    lost = Entry(5, 2, b'{"type":"error","errorText":"Redis lost it","code":"log_lost"}')
    if not is_waiting:
        tail.log["g"].append(lost)
    viewer = await hub.join("g", cursor=None, timeout_s=5, dialect=DIALECTS[name])
    if is_waiting:
        tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(5, 1), 1, 1))
        tail.append("g", lost)
    assert isinstance(viewer, Viewer)

    sent = b""
    for _ in range(10):
        sent += viewer.pull(2**16)
        await turns(1)

    assert viewer.stop_reason is StopReason.TERMINAL
    assert b"Redis lost it" in sent or b"log_lost" in sent
