"""Channels over whatever nodes serve now: one connection to each of them, every channel at the node of its slot.

Rules
1. A node gets its connection and its probe when the topology names it, and loses both when it does not any more.
2. A channel is wanted at the node that the topology names for it. With each change it is looked at again; one whose
   node is another one, or none, is told ``lost`` and asked for where it belongs; ``subscribed`` follows.
3. A channel that its node refuses is asked for again, by the topology of then, after a pause that grows with refusals
   in a row: a map that lags behind, or a slot that nobody serves, makes no storm, and costs other channels nothing.
4. Whatever hints at a change (a refusal, a broken or deaf connection, a probe not published) makes the topology look.
5. Nothing here is done per message: a push goes from the connection to its listener.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from broadcaster.log.feed_connection import NodeConnection
from broadcaster.log.feed_options import FeedLimits, FeedStats, FeedTimes
from broadcaster.log.feed_probe import Probe, PublishProbe
from broadcaster.log.feed_session import Listener
from broadcaster.log.keys import Keys
from broadcaster.log.topology import Topology

_PROBE_NAME_BYTES: Final = 8
_DRAWS: Final = (
    4096  # a few milliseconds; enough but for a node of a handful of slots, where the next probe draws again
)

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(slots=True)
class _Node:
    connection: NodeConnection
    probe: Probe
    tasks: tuple[asyncio.Task[None], ...]
    heard_at: float = 0.0  # when it last answered a request for what it holds


@dataclass(slots=True)
class _Want:
    listener: Listener
    node: str | None
    since: float  # loop time of its last change of place


class Subscriptions:
    """All channels that one process wants. ``start`` brings the connections up, in tasks of the caller's."""

    def __init__(
        self,
        topology: Topology,
        *,
        keys: Keys,
        publish_probe: PublishProbe,
        times: FeedTimes,
        limits: FeedLimits,
        stats: FeedStats,
        rng: random.Random,
        on_silence: Callable[[str], None],
    ) -> None:
        self._topology = topology
        self._keys = keys
        self._publish_probe = publish_probe
        self._times = times
        self._limits = limits
        self._stats = stats
        self._rng = rng
        self._on_silence = on_silence
        self._loop = asyncio.get_running_loop()
        self._nodes: dict[str, _Node] = {}
        self._wants: dict[str, _Want] = {}
        self._homeless: dict[str, None] = {}
        self._refusals = 0
        self._refused_at = -math.inf
        self._again: asyncio.TimerHandle | None = None
        self._spawn: Spawn | None = None

    def start(self, spawn: Spawn) -> None:
        """Connect, now and whenever the topology changes, until ``stop``."""
        self._spawn = spawn
        self._topology.on_change(self._follow)
        self._follow()

    def stop(self) -> None:
        """Nothing is connected or asked for from now on. The tasks are the caller's to end."""
        self._spawn = None
        if self._again is not None:
            self._again.cancel()

    def subscribe(self, channel: str, listener: Listener) -> None:
        """Want the channel's messages; one listener a channel."""
        self._wants[channel] = _Want(listener, None, self._loop.time())
        self._place(channel)

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Want them no more. Nothing happens when the channel has another listener by now."""
        want = self._wants.get(channel)
        if want is None or want.listener is not listener:
            return
        del self._wants[channel]
        self._homeless.pop(channel, None)
        if want.node is not None:
            self._nodes[want.node].connection.unsubscribe(channel, listener)

    def node_of(self, channel: str) -> str | None:
        """Where a wanted channel is subscribed, or being subscribed; None: nowhere."""
        want = self._wants.get(channel)
        return None if want is None else want.node

    def heard(self, channel: str) -> None:
        """A request for what lies in this channel's slot was answered."""
        node = self.node_of(channel)
        if node is not None:
            self._nodes[node].heard_at = self._loop.time()

    def unheard_s(self, channel: str) -> float:
        """For how long nothing was heard of who serves the channel."""
        want = self._wants.get(channel)
        if want is None:
            return 0.0
        if want.node is None:
            return self._loop.time() - want.since
        node = self._nodes[want.node]
        return self._loop.time() - max(node.heard_at, node.connection.heard_at)

    # -- rules 1 and 2

    def _follow(self) -> None:
        """Bring nodes and channels in line with the topology."""
        if self._spawn is None:
            return
        named = self._topology.nodes
        for name in [name for name in self._nodes if name not in named]:
            self._leave(name)
        for name in named:
            if name not in self._nodes:
                self._nodes[name] = self._join(name, self._spawn)
        for name, node in self._nodes.items():
            if node.probe.channel is not None and self._topology.node_of(node.probe.channel) != name:
                node.probe.draw_again()
        for channel, want in list(self._wants.items()):
            if want.node is None or want.node != self._topology.node_of(channel):
                self._move(channel, want)

    def _join(self, name: str, spawn: Spawn) -> _Node:
        connection = NodeConnection(
            self._topology.dialer(name),
            times=self._times,
            limits=self._limits,
            stats=self._stats,
            rng=self._rng,
            refused=self._refused,
            broke=self._topology.suspect,
        )
        probe = Probe(
            connection,
            draw=partial(self._draw_probe_channel, name),
            publish=self._publish_probe,
            on_silence=partial(self._silent, name),
            on_deafness=self._topology.suspect,
        )
        running = spawn(connection.run()), spawn(probe.run(self._times, stats=self._stats, rng=self._rng))
        return _Node(connection, probe, running)

    def _leave(self, name: str) -> None:
        for channel, want in list(self._wants.items()):
            if want.node == name:
                self._evict(channel, want)
        node = self._nodes.pop(name)
        node.connection.end()
        for task in node.tasks:
            task.cancel()

    def _move(self, channel: str, want: _Want) -> None:
        if want.node is not None:
            self._nodes[want.node].connection.unsubscribe(channel, want.listener)
            self._evict(channel, want)
        self._place(channel)

    def _evict(self, channel: str, want: _Want) -> None:
        want.node, want.since = None, self._loop.time()
        self._homeless[channel] = None
        want.listener.lost()

    def _place(self, channel: str) -> None:
        want = self._wants[channel]
        name = self._topology.node_of(channel)
        if name is None or name not in self._nodes:
            self._homeless[channel] = None
            return
        self._homeless.pop(channel, None)
        want.node, want.since = name, self._loop.time()
        self._nodes[name].connection.subscribe(channel, want.listener)

    # -- rules 3 and 4

    def _refused(self, channel: str) -> None:
        """Its listener has been told; the connection wants it no more."""
        self._topology.suspect()
        want = self._wants.get(channel)
        if want is None:
            self._refused_probe(channel)
            return
        want.node, want.since = None, self._loop.time()
        self._homeless[channel] = None
        if self._again is None and self._spawn is not None:
            is_in_a_row = self._loop.time() - self._refused_at < 2 * self._times.backoff_cap_s
            self._refusals = self._refusals + 1 if is_in_a_row else 1
            self._refused_at = self._loop.time()
            self._again = self._loop.call_later(self._times.backoff_s(self._refusals, self._rng), self._place_again)

    def _place_again(self) -> None:
        self._again = None
        for channel in list(self._homeless):
            self._place(channel)

    def _refused_probe(self, channel: str) -> None:
        for node in self._nodes.values():
            if node.probe.channel == channel:
                node.probe.forget()

    def _silent(self, name: str) -> None:
        self._topology.suspect()
        self._on_silence(name)

    def _draw_probe_channel(self, name: str) -> str | None:
        """A channel nobody else has, on this very node; None when none was found."""
        for _ in range(_DRAWS):
            channel = self._keys.probe(secrets.token_hex(_PROBE_NAME_BYTES))
            if self._topology.node_of(channel) == name:
                return channel
        return None
