"""One session keeps the server's subscriptions in line with what is wanted, in whatever order things come."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import hiredis
from hypothesis import example, given, settings
from hypothesis import strategies as st

from broadcaster.log.pubsub.session import SubscriberSession


class Wire(asyncio.Transport):
    """A transport to a server in miniature, which takes one command and sends one reply at a time."""

    def __init__(self, *, may_repeat: bool = False) -> None:
        super().__init__()
        self.may_repeat = may_repeat
        self._commands = hiredis.Reader()
        self.answers: list[bytes] = []
        self.channels: dict[bytes, int] = {}  # what is subscribed, and by which command
        self.commands = 0
        self.was_aborted = False
        self.refused_leaves = 0
        self.gone: set[bytes] = set()  # channels of slots that this server does not serve

    def write(self, data: Any) -> None:
        self._commands.feed(bytes(data))

    def abort(self) -> None:
        self.was_aborted = True

    def is_closing(self) -> bool:
        return self.was_aborted

    def pause_reading(self) -> None:
        """It sends one reply at a time anyway."""

    def resume_reading(self) -> None:
        """As above."""

    def take_command(self) -> bool:
        command = self._commands.gets()
        if not command:
            return False
        kind, channel = command
        kind = kind.lower()
        self.commands += 1
        if channel in self.gone:
            self.answers.append(b"-MOVED 7 other:1\r\n")
            self.refused_leaves += kind == b"sunsubscribe"
            return True
        if kind == b"ssubscribe":
            assert self.may_repeat or channel not in self.channels, "a command that changes nothing"
            self.channels[channel] = self.commands
        else:
            self.channels.pop(channel, None)
        self.answers.append(b"*3\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n:1\r\n" % (len(kind), kind, len(channel), channel))
        return True

    def move(self, channel: bytes) -> None:
        """The channel's slot goes elsewhere, or comes back."""
        self.gone ^= {channel}
        if self.channels.pop(channel, None) is not None:
            self.answers.append(b"*3\r\n$12\r\nsunsubscribe\r\n$%d\r\n%s\r\n:0\r\n" % (len(channel), channel))

    def publish(self, channel: bytes) -> None:
        if channel in self.channels:
            self.answers.append(b"*3\r\n$8\r\nsmessage\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(channel), channel))


@dataclass
class RecordingListener:
    """A listener that remembers its messages, and how many commands the server had taken when it was subscribed."""

    wire: Wire
    subscribed_at: int = -1
    received: list[bytes] = field(default_factory=list)

    def push(self, payload: bytes) -> None:
        self.received.append(payload)

    def subscribed(self) -> None:
        self.subscribed_at = self.wire.commands

    def lost(self) -> None:
        self.subscribed_at = -1


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(["a", "a", "b", "turn", "turn", "serve", "receive"]), min_size=10, max_size=50))
async def test_the_server_ends_up_with_what_is_wanted_and_every_listener_is_notified(actions: list[str]) -> None:
    wanted: dict[bytes, RecordingListener] = {}
    session = SubscriberSession(wanted, reply_bytes=1000)
    wire = Wire()
    session.connection_made(wire)
    session.start(())

    async def act(action: str) -> None:
        if action in ("a", "b"):
            channel = action.encode()
            if wanted.pop(channel, None) is None:
                wanted[channel] = RecordingListener(wire)
            session.change(channel)
        elif action == "turn":
            await asyncio.sleep(0)
        elif action == "serve":
            wire.take_command()
        elif action == "receive" and wire.answers:
            session.data_received(wire.answers.pop(0))

    for action in actions:
        await act(action)
    for action in ["turn", *["serve", "receive"] * 60]:
        await act(action)
    for channel in wanted:
        wire.publish(channel)
        await act("receive")

    assert set(wire.channels) == set(wanted)
    for channel, listener in wanted.items():
        assert listener.received[-1:] == [b"x"]
        assert listener.subscribed_at >= wire.channels[channel], "what came before this subscription would be missed"
    assert not wire.was_aborted


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.sampled_from([*"aabc", "turn", "turn", "serve", "serve", "receive", "receive", "move a", "move b"]),
        min_size=10,
        max_size=60,
    )
)
@example(["b", "turn", "b", "serve", "a", "turn", "receive", "move b", "a", "serve", "receive", "receive"])
async def test_only_channels_of_slots_that_went_elsewhere_are_given_up(actions: list[str]) -> None:
    """The owner requests refused channels anew, here for as long as the server still serves them."""
    wire = Wire(may_repeat=True)
    wanted: dict[bytes, RecordingListener] = {}
    elsewhere: set[bytes] = set()

    def refused(channel: bytes) -> None:
        del wanted[channel]
        elsewhere.add(channel)

    session = SubscriberSession(wanted, reply_bytes=1000, refused=refused)
    session.connection_made(wire)
    session.start(())

    def want(channel: bytes) -> None:
        elsewhere.discard(channel)
        wanted[channel] = RecordingListener(wire)
        session.change(channel)

    async def act(action: str) -> None:
        if action in ("a", "b", "c"):
            channel = action.encode()
            if wanted.pop(channel, None) is not None:
                session.change(channel)
            else:
                want(channel)
        elif action == "turn":
            await asyncio.sleep(0)
        elif action == "serve":
            wire.take_command()
        elif action == "receive" and wire.answers:
            session.data_received(wire.answers.pop(0))
        elif action.startswith("move"):
            wire.move(action[-1].encode())

    for action in actions:
        await act(action)
    for _ in range(4):
        for channel in elsewhere - wire.gone:
            want(channel)
        for action in ["turn", *["serve", "receive"] * 80]:
            await act(action)

    if wire.refused_leaves and wire.was_aborted:
        return  # the one case that cannot be distinguished
    assert elsewhere <= wire.gone
    assert set(wire.channels) == set(wanted) <= {b"a", b"b", b"c"} - wire.gone
    for channel, listener in wanted.items():
        assert listener.subscribed_at >= wire.channels[channel], "what came before this subscription would be missed"
    assert not wire.was_aborted


async def test_a_change_after_the_end_is_without_effect() -> None:
    session = SubscriberSession({}, reply_bytes=1000)
    wire = Wire()
    session.connection_made(wire)
    session.drop("enough")
    session.drop("again")

    session.change(b"a")
    await asyncio.sleep(0)
    session.connection_lost(None)

    assert (wire.was_aborted, session.reason, wire.take_command()) == (True, "enough", False)
