"""One subscriber connection, from its opening to its end: bytes in, pushes out.

Rules
1. It is an ``asyncio.Protocol`` around ``hiredis.Reader`` (RESP2). A push costs one dictionary look-up and one call.
2. A refusal that concerns one slot (MOVED, CLUSTERDOWN …) costs only its channel: replies come in the order of the
   commands, so the channel is known. The same holds when the server unsubscribes a channel because its slot has moved.
   The owner is notified (``refused``) and subscribes the channel elsewhere; the session forgets it. One case cannot be
   distinguished: when the server takes a channel away just before it refuses our command to leave it, the refusal is
   counted against the next command. That command's channel is then requested anew, or left if it is not wanted any more
   (``_leave``). Without a next command the session ends.
3. Any other error ends the session, whatever its text (NOPERM, NOAUTH, LOADING …), because a connection that half works
   may have lost pushes. The next session subscribes everything, and its listeners read the log.
4. The (un)subscribe commands of one loop turn leave in one write. A channel that is added and removed within one turn
   causes no command.
5. A reply that has not ended within ``reply_bytes`` ends the session, so memory is bounded.
6. A busy connection is read once in a few milliseconds (``pace.py``).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, Final, Protocol, cast

import hiredis

from broadcaster.log.pubsub.pace import ReadPace

_INCOMPLETE: Final = object()
_SUBSCRIBE: Final = "SSUBSCRIBE"
_UNSUBSCRIBE: Final = "SUNSUBSCRIBE"
_OF_ONE_SLOT: Final = ("MOVED ", "ASK ", "CLUSTERDOWN", "TRYAGAIN")


class Listener(Protocol):
    """Receives a channel's messages. Calls come from the event loop; they must neither block nor raise."""

    def push(self, payload: bytes) -> None:
        """A message of the channel."""

    def subscribed(self) -> None:
        """Messages come from now on; earlier ones may have been lost. Called again after each reconnect."""

    def lost(self) -> None:
        """No messages come until the next ``subscribed``."""


@dataclass(eq=False, repr=False)
class SubscriberSession(asyncio.Protocol):
    """The protocol of one connection. ``wanted`` is the owner's table of channels; it outlives the session.

    ``refused`` is called with a wanted channel that this node does not serve, or not any more. Without ``refused``,
    such a channel ends the session.
    """

    _wanted: Mapping[bytes, Listener]
    _: KW_ONLY
    reply_bytes: int
    refused: Callable[[bytes], None] | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    # The first subscription is confirmed, or the session has ended.
    opened: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    reason: str = field(default="the server closed the connection", init=False)
    # Being connected proves nothing: a proxy accepts connections when the server behind it is gone.
    received_at: float = field(default=-math.inf, init=False)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop, init=False)
    _reader: hiredis.Reader = field(default_factory=partial(hiredis.Reader, notEnoughData=_INCOMPLETE), init=False)
    _transport: asyncio.Transport | None = field(default=None, init=False)
    _pace: ReadPace | None = field(default=None, init=False)
    _sent: set[bytes] = field(default_factory=set, init=False)  # channels that the server subscribes or has subscribed
    # Commands sent and without a reply, in order; and how many of them subscribe each channel.
    _pending: deque[tuple[str, bytes]] = field(default_factory=deque, init=False)
    _subscribing: dict[bytes, int] = field(default_factory=dict, init=False)
    _changed: dict[bytes, None] = field(default_factory=dict, init=False)
    _turn: asyncio.Handle | None = field(default=None, init=False)

    def start(self, greeting: tuple[str, ...]) -> None:
        """Authenticate and subscribe everything that is wanted."""
        if self._transport is not None and greeting:
            self._pending.append((greeting[0], b""))
            self._transport.write(_encode(*greeting))
        self._changed = dict.fromkeys(self._wanted)
        self._send_turn()

    def change(self, channel: bytes) -> None:
        """``wanted`` has gained or lost this channel; the command is sent at the end of the loop turn."""
        self._changed[channel] = None
        if self._turn is None:
            self._turn = self._loop.call_soon(self._send_turn)

    def drop(self, reason: str) -> None:
        """End the session at once; ``closed`` follows."""
        if not self.closed.is_set():
            self.reason = reason
            self._end()
            if self._transport is not None:
                self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._pace = ReadPace(self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        if error is not None and not self.closed.is_set():
            self.reason = f"the connection broke: {error}"
        self._end()

    def data_received(self, data: bytes) -> None:
        self.received_at = self._loop.time()
        reader, wanted, replies = self._reader, self._wanted, 0
        try:
            reader.feed(data)
            while not self.closed.is_set():
                reply = reader.gets()
                if reply is _INCOMPLETE:
                    break
                replies += 1
                if type(reply) is list and reply[0] == b"smessage":  # nearly always
                    listener = wanted.get(reply[1])
                    if listener is not None:
                        listener.push(reply[2])
                else:
                    self._take(reply)
        except hiredis.ProtocolError as error:
            self.drop(f"not RESP: {error}")
            return
        if reader.len() > self.reply_bytes:
            self.drop(f"a reply longer than {self.reply_bytes} bytes")
        if self._pace is not None:
            self._pace.has_read(replies, now=self.received_at)

    # -- replies

    def _take(self, reply: Any) -> None:
        if type(reply) is not list:
            self._on_plain_reply(reply)
            return
        kind = reply[0]
        if kind == b"ssubscribe":
            self._confirm(reply[1])
        elif kind == b"sunsubscribe":
            self._confirm_leave(reply[1])

    def _on_plain_reply(self, reply: Any) -> None:
        """The reply to AUTH, or a refusal (rules 2 and 3)."""
        kind, channel = self._pending.popleft() if self._pending else ("", b"")
        if not isinstance(reply, hiredis.ReplyError):
            return
        if not channel or self.refused is None or not str(reply).startswith(_OF_ONE_SLOT):
            self.drop(f"the server refused: {reply}")
            return
        self.opened.set()
        if kind == _SUBSCRIBE:
            self._subscribed(channel)
            self._give_up(channel)

    def _confirm(self, channel: bytes) -> None:
        if self._pending and self._pending[0] == (_SUBSCRIBE, channel):
            self._pending.popleft()
            self._subscribed(channel)
        elif channel not in self._wanted and channel not in self._sent:
            self._leave(channel)
        self.opened.set()
        listener = self._wanted.get(channel)
        if listener is not None:
            listener.subscribed()

    def _leave(self, channel: bytes) -> None:
        """Unsubscribe a channel that is not wanted and whose command was taken for the refused one (rule 2)."""
        if (_UNSUBSCRIBE, channel) not in self._pending:
            self._sent.add(channel)
            self.change(channel)

    def _confirm_leave(self, channel: bytes) -> None:
        if self._pending and self._pending[0] == (_UNSUBSCRIBE, channel):
            self._pending.popleft()
        else:
            self._give_up(channel)

    def _subscribed(self, channel: bytes) -> None:
        """One of the commands that subscribe this channel has its reply."""
        left = self._subscribing.pop(channel) - 1
        if left:
            self._subscribing[channel] = left

    def _give_up(self, channel: bytes) -> None:
        """The server does not serve this channel here; ignored when it was left or requested anew meanwhile."""
        if channel in self._subscribing or channel not in self._sent:
            return
        self._sent.discard(channel)
        if channel not in self._wanted:
            return
        if self.refused is None:
            self.drop("the server took a channel away")
        else:
            self.refused(channel)

    # -- commands

    def _send_turn(self) -> None:
        self._turn = None
        changed, self._changed = self._changed, {}
        if self._transport is None or self.closed.is_set():
            return
        commands = [command for channel in changed if (command := self._command(channel))]
        if commands:
            self._transport.write(b"".join(commands))

    def _command(self, channel: bytes) -> bytes:
        """The command that brings the server's subscriptions in line with ``wanted``; empty when they are."""
        if channel in self._wanted:
            if channel not in self._sent:
                self._sent.add(channel)
                self._pending.append((_SUBSCRIBE, channel))
                self._subscribing[channel] = self._subscribing.get(channel, 0) + 1
                return _encode(_SUBSCRIBE, channel)
            # The listener changed within one turn, which caused no command. If the first confirmation is still to come,
            # the listener is notified twice.
            self._wanted[channel].subscribed()
        elif channel in self._sent:
            self._sent.discard(channel)
            self._pending.append((_UNSUBSCRIBE, channel))
            return _encode(_UNSUBSCRIBE, channel)
        return b""

    def _end(self) -> None:
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if self._pace is not None:
            self._pace.close()
            self._pace = None
        self.closed.set()
        self.opened.set()


def _encode(*arguments: str | bytes) -> bytes:
    return cast(bytes, hiredis.pack_command(cast(Any, arguments)))
