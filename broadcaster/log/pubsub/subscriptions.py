"""Channels over the nodes that serve now: one connection to each node, every channel at the node of its slot.

Rules
1. A node gets a connection and a probe when the topology names it. It loses both when the topology names it no more.
2. A channel is subscribed at the node that the topology names for it. With each change of the topology every channel is
   checked. If its node has changed, its listener is called with ``lost``, the channel is subscribed at the new node (if
   there is one), and ``subscribed`` follows.
3. A channel that its node refuses is requested anew after a pause, which grows with refusals in a row, at the node that
   the topology names then. So an outdated map, or a slot without a node, causes no storm and costs no other channel.
4. Each hint of a change (a refusal, a broken or deaf connection, a probe not published) makes the topology look itself
   up again.
5. No code here runs per message: a push goes from the connection to its listener.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

from broadcaster.log.pubsub.connection import NodeConnection, SubscriberOptions
from broadcaster.log.pubsub.counts import SubscriberCounts
from broadcaster.log.pubsub.probe import Probe, PublishProbe
from broadcaster.log.pubsub.session import Listener
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.topology.topology import Topology

_DRAWS: Final = 4096
"""Attempts to find a probe channel in a node's slots: a few milliseconds. For a node with a handful of slots they may
not suffice; its next probe draws then."""

Spawn: TypeAlias = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


@dataclass(slots=True)
class _Node:
    connection: NodeConnection
    probe: Probe
    tasks: tuple[asyncio.Task[None], ...]
    responded_at: float = 0.0  # loop time of its last response to a request for a stream


@dataclass(slots=True)
class _Want:
    listener: Listener
    node: str | None
    since: float  # loop time of its last change of place


@dataclass(slots=True, eq=False, repr=False)
class Subscriptions:
    """All channels of one process. ``start`` brings the connections up, in tasks that the caller spawns and ends."""

    topology: Topology
    _: KW_ONLY
    keys: KeyNames
    publish_probe: PublishProbe
    options: SubscriberOptions
    rng: random.Random
    on_silence: Callable[[str], None]
    counts: SubscriberCounts = field(default_factory=SubscriberCounts, init=False)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop, init=False)
    _nodes: dict[str, _Node] = field(default_factory=dict, init=False)
    _wants: dict[str, _Want] = field(default_factory=dict, init=False)
    _refusals: int = field(default=0, init=False)
    _refused_at: float = field(default=-math.inf, init=False)
    _retry: asyncio.TimerHandle | None = field(default=None, init=False)
    _spawn: Spawn | None = field(default=None, init=False)

    def start(self, spawn: Spawn) -> None:
        """Connect, now and whenever the topology changes, until ``stop``."""
        self._spawn = spawn
        self.topology.on_change(self._follow)
        self._follow()

    def stop(self) -> None:
        """Connect and subscribe nothing from now on. The caller ends the tasks."""
        self._spawn = None
        if self._retry is not None:
            self._retry.cancel()

    def subscribe(self, channel: str, listener: Listener) -> None:
        """Receive the channel's messages; one listener a channel."""
        self._wants[channel] = _Want(listener, None, self._loop.time())
        self._place(channel)

    def unsubscribe(self, channel: str, listener: Listener) -> None:
        """Receive them no more. Nothing happens when the channel has another listener by now."""
        want = self._wants.get(channel)
        if want is None or want.listener is not listener:
            return
        del self._wants[channel]
        if want.node is not None:
            self._nodes[want.node].connection.unsubscribe(channel, listener)

    def node_of(self, channel: str) -> str | None:
        """The node where the channel is subscribed, or being subscribed; None: at none."""
        want = self._wants.get(channel)
        return None if want is None else want.node

    def responded(self, channel: str) -> None:
        """The node of this channel has responded to a request."""
        self.node_responded(self.node_of(channel))

    def node_responded(self, name: str | None) -> None:
        """This node has responded to a request. Nothing happens when it is none, or has left."""
        node = None if name is None else self._nodes.get(name)
        if node is not None:
            node.responded_at = self._loop.time()

    def silent_s(self, channel: str) -> float:
        """For how long the node of this channel has sent nothing."""
        want = self._wants.get(channel)
        if want is None:
            return 0.0
        if want.node is None:
            return self._loop.time() - want.since
        node = self._nodes[want.node]
        return self._loop.time() - max(node.responded_at, node.connection.received_at)

    # -- rules 1 and 2

    def _follow(self) -> None:
        """Bring nodes and channels in line with the topology."""
        if self._spawn is None:
            return
        named = self.topology.nodes
        for name in [name for name in self._nodes if name not in named]:
            self._leave(name)
        for name in named:
            if name not in self._nodes:
                self._nodes[name] = self._join(name, self._spawn)
        for name, node in self._nodes.items():
            if node.probe.channel is not None and self.topology.node_of(node.probe.channel) != name:
                node.probe.redraw()
        for channel, want in list(self._wants.items()):
            if want.node is None or want.node != self.topology.node_of(channel):
                self._move(channel, want)

    def _join(self, name: str, spawn: Spawn) -> _Node:
        connection = NodeConnection(
            self.topology.dialer(name),
            options=self.options,
            rng=self.rng,
            refused=self._refused,
            broke=self._broke,
        )
        probe = Probe(
            connection,
            draw=partial(self.keys.draw_probe, lambda channel: self.topology.node_of(channel) == name, draws=_DRAWS),
            publish=self.publish_probe,
            on_silence=partial(self._silent, name),
            on_deafness=self.topology.suspect,
            counts=self.counts,
        )
        running = spawn(connection.run()), spawn(probe.run(self.options, self.rng))
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
        want.listener.lost()

    def _place(self, channel: str) -> None:
        want = self._wants[channel]
        name = self.topology.node_of(channel)
        if name is not None and name in self._nodes:
            want.node, want.since = name, self._loop.time()
            self._nodes[name].connection.subscribe(channel, want.listener)

    # -- rules 3 and 4

    def _broke(self) -> None:
        """A connection was lost, or could not be opened."""
        self.counts.connections_lost += 1
        self.topology.suspect()

    def _refused(self, channel: str) -> None:
        """The node refuses this channel: its listener is notified, and the connection has dropped it."""
        self.topology.suspect()
        want = self._wants.get(channel)
        if want is None:
            for node in self._nodes.values():
                if node.probe.channel == channel:
                    node.probe.forget()
            return
        want.node, want.since = None, self._loop.time()
        if self._retry is None and self._spawn is not None:
            is_in_a_row = self._loop.time() - self._refused_at < 2 * self.options.backoff.cap_s
            self._refusals = self._refusals + 1 if is_in_a_row else 1
            self._refused_at = self._loop.time()
            pause_s = self.options.backoff.pause_s(self._refusals, luck=self.rng.random())
            self._retry = self._loop.call_later(pause_s, self._place_unplaced)

    def _place_unplaced(self) -> None:
        self._retry = None
        for channel, want in list(self._wants.items()):
            if want.node is None:
                self._place(channel)

    def _silent(self, name: str) -> None:
        self.topology.suspect()
        self.on_silence(name)
