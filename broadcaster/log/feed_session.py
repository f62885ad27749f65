"""One subscriber connection, from its opening to its end: bytes in, pushes out.

Rules
1. Our own ``asyncio.Protocol`` round ``hiredis.Reader`` (RESP2): a push costs one dictionary look-up and one call.
2. A refusal that concerns one slot (MOVED, CLUSTERDOWN …) costs its channel alone: answers come in the order of the
   commands, so we know which. So does a channel that the server takes away unasked because its slot went elsewhere.
   The owner is told (``refused``) and finds it another place; here it counts as never asked for. (One case is not told
   apart: taken away at the very moment we leave it, its refusal is held against the command after it, whose channel is
   asked for again, or without one ends the session.)
3. Any other error ends the session, whatever its text (NOPERM, NOAUTH, LOADING …): what a half-working connection would
   have delivered nobody can know. The next session subscribes again and reads again.
4. The (un)subscribe commands of one loop turn leave in one write; a channel that came and went within the turn in none.
5. A reply that has not ended within ``reply_bytes`` ends the session: memory is bounded.
6. A busy connection is read once in a few milliseconds (feed_pace.py).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, cast

import hiredis

from broadcaster.log.feed_pace import ReadPace

_INCOMPLETE: Final = object()
_SUBSCRIBE: Final = "SSUBSCRIBE"
_UNSUBSCRIBE: Final = "SUNSUBSCRIBE"
_OF_ONE_SLOT: Final = ("MOVED ", "ASK ", "CLUSTERDOWN", "TRYAGAIN")


class Listener(Protocol):
    """Who wants a channel. Called from the event loop, must not block; an exception is the listener's own to catch."""

    def push(self, payload: bytes) -> None:
        """A message came on the channel."""

    def subscribed(self) -> None:
        """From now on messages come; those before may have been lost. Again after each reconnect."""

    def lost(self) -> None:
        """No messages come until ``subscribed`` is called again."""


class Session(asyncio.Protocol):
    """The protocol of one connection; ``wanted`` is the owner's table of channels, which outlives it.

    ``refused`` is called with a wanted channel that this node does not serve (any more). None: that ends the session.
    """

    def __init__(
        self,
        wanted: Mapping[bytes, Listener],
        *,
        reply_bytes: int,
        refused: Callable[[bytes], None] | None = None,
    ) -> None:
        self._wanted = wanted
        self._refused = refused
        self._reply_bytes = reply_bytes
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(notEnoughData=_INCOMPLETE)
        self._transport: asyncio.Transport | None = None
        self._pace: ReadPace | None = None
        self._sent: set[bytes] = set()  # channels the server was told to subscribe
        self._asked: deque[tuple[str, bytes]] = deque()  # commands sent and not answered, in order
        self._subscribing: dict[bytes, int] = {}  # of them, how many subscribe a channel
        self._changed: dict[bytes, None] = {}
        self._turn: asyncio.Handle | None = None
        self.closed = asyncio.Event()
        self.greeted = asyncio.Event()  # the first subscription is confirmed, or the session has ended
        self.reason = "the server closed the connection"
        # That it was connected to says nothing: what stands before a server takes connections when it is gone.
        self.heard_at = -math.inf

    def start(self, greeting: tuple[str, ...]) -> None:
        """Greet and subscribe everything wanted."""
        if self._transport is not None and greeting:
            self._asked.append((greeting[0], b""))
            self._transport.write(_encode(*greeting))
        self._changed = dict.fromkeys(self._wanted)
        self._send_turn()

    def change(self, channel: bytes) -> None:
        """``wanted`` has got or lost this channel; the server is told at the end of the loop turn."""
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
        self.heard_at = self._loop.time()
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
        if reader.len() > self._reply_bytes:
            self.drop(f"a reply longer than {self._reply_bytes} bytes")
        if self._pace is not None:
            self._pace.has_read(replies, now=self.heard_at)

    # -- replies

    def _take(self, reply: Any) -> None:
        if type(reply) is not list:
            self._answer(reply)
            return
        kind = reply[0]
        if kind == b"ssubscribe":
            self._confirm(reply[1])
        elif kind == b"sunsubscribe":
            self._confirm_leave(reply[1])

    def _answer(self, reply: Any) -> None:
        """The greeting's answer, or a refusal (rules 2 and 3)."""
        kind, channel = self._asked.popleft() if self._asked else ("", b"")
        if not isinstance(reply, hiredis.ReplyError):
            return
        if not channel or self._refused is None or not str(reply).startswith(_OF_ONE_SLOT):
            self.drop(f"the server refused: {reply}")
            return
        self.greeted.set()
        if kind == _SUBSCRIBE:
            self._subscribed(channel)
            self._give_up(channel)

    def _confirm(self, channel: bytes) -> None:
        if self._asked and self._asked[0] == (_SUBSCRIBE, channel):
            self._asked.popleft()
            self._subscribed(channel)
        self.greeted.set()
        listener = self._wanted.get(channel)
        if listener is not None:
            listener.subscribed()

    def _confirm_leave(self, channel: bytes) -> None:
        if self._asked and self._asked[0] == (_UNSUBSCRIBE, channel):
            self._asked.popleft()
        else:
            self._give_up(channel)

    def _subscribed(self, channel: bytes) -> None:
        """One of the commands that subscribe it has its answer."""
        left = self._subscribing.pop(channel) - 1
        if left:
            self._subscribing[channel] = left

    def _give_up(self, channel: bytes) -> None:
        """The server has us not subscribed here; unless we ask again, or have asked again by now."""
        if channel in self._subscribing or channel not in self._sent:
            return
        self._sent.discard(channel)
        if channel not in self._wanted:
            return
        if self._refused is None:
            self.drop("the server took a channel away")
        else:
            self._refused(channel)

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
        """What brings the server's subscriptions in line with ``wanted``; empty when they are."""
        if channel in self._wanted:
            if channel not in self._sent:
                self._sent.add(channel)
                self._asked.append((_SUBSCRIBE, channel))
                self._subscribing[channel] = self._subscribing.get(channel, 0) + 1
                return _encode(_SUBSCRIBE, channel)
            # The listener changed within one turn and the server never heard of it. If the first confirmation is still
            # to come, it will say so once more.
            self._wanted[channel].subscribed()
        elif channel in self._sent:
            self._sent.discard(channel)
            self._asked.append((_UNSUBSCRIBE, channel))
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
        self.greeted.set()


def _encode(*words: str | bytes) -> bytes:
    return cast(bytes, hiredis.pack_command(cast(Any, words)))
