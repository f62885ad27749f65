"""The client connections of one front-end: how many there may be, and how long a request may take to arrive.

1. A request's head must arrive within ``head_timeout_s`` of the connection's beginning, or after its own first byte.
2. A body may pause for less than ``body_timeout_s``, and must bring ``body_min_bytes_per_s`` on average over each such
   span. The rest of a body that was refused already is received for one more such span.
3. Time in which the front-end itself does not read, or responds to an earlier request, does not count.
4. A connection beyond the bound is refused at once, before its request.

One sweep a second checks the connections on which a request is on its way. All others cost nothing: viewers, and idle
connections, which have uvicorn's keep-alive timer. The sweep counts its own seconds and reads no clock: a loop that was
blocked for a minute has read nothing for a minute, and no client is late for that. A limit is exact to a second.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator, MutableSet
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger

# Descriptors that are not for clients: connections to Redis, log files, files that a library opens.
RESERVED_DESCRIPTORS: Final = 100
# A front-end under attack refuses thousands of connections a second: one log line a minute counts them.
REPORT_EVERY_S: Final = 60.0

_log = get_logger(__name__)


class OpenConnections(MutableSet[asyncio.Protocol]):
    """All connections of one server. Of 10,000 a set takes 105 bytes each, the keys of a dictionary 29 (measured)."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: dict[asyncio.Protocol, None] = {}

    def __contains__(self, connection: object) -> bool:
        return connection in self._all

    def __iter__(self) -> Iterator[asyncio.Protocol]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def add(self, value: asyncio.Protocol) -> None:
        """It is open; adding it again changes nothing."""
        self._all[value] = None

    def discard(self, value: asyncio.Protocol) -> None:
        """It is closed; an unknown one changes nothing."""
        self._all.pop(value, None)


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The bounds; ``max_connections`` None: as many as this process may have descriptors, less a hundred.

    ``ping_s``, ``pong_s``: how often a WebSocket is pinged, and the deadline for the answer.
    """

    max_connections: int | None = None
    head_timeout_s: float = 15
    body_timeout_s: float = 30
    body_min_bytes_per_s: int = 1024
    sweep_s: float = 1.0
    ping_s: float = 15
    pong_s: float = 30

    @property
    def most(self) -> int | None:
        """Most connections; None: any number."""
        if self.max_connections is not None:
            return self.max_connections
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return None if soft == resource.RLIM_INFINITY else max(1, soft - RESERVED_DESCRIPTORS)


@runtime_checkable
class Abortable(Protocol):
    """A connection that can be closed at once."""

    def abort(self) -> None:
        """Close it now, without sending what is buffered."""


class ArrivingRequest(Protocol):
    """A connection on which a request is on its way; several protocols may have its ``transport`` in turn."""

    transport: asyncio.Transport

    @property
    def is_responding(self) -> bool:
        """Whether the response to an earlier request is under way."""

    @property
    def is_paused(self) -> bool:
        """Whether the front-end itself does not read the body."""

    @property
    def is_response_complete(self) -> bool:
        """Whether the response is complete although the body is not."""

    def give_up(self) -> None:
        """The request is too late: respond with 408 where that is possible, and close."""


@dataclass(slots=True)
class _ArrivingBody:
    """The received part of one body; times are of the sweep's clock."""

    silent_since: float
    measured_since: float
    answered_since: float | None = None
    fresh: int = 0
    measured: int = 0


class Arrivals:
    """The requests that are on their way to one front-end, and the connections it refused."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._most = limits.most
        self._now = 0.0
        # In the order in which they are due: all have the same time-out.
        self._heads: dict[asyncio.Transport, tuple[float, ArrivingRequest]] = {}
        self._bodies: dict[ArrivingRequest, _ArrivingBody] = {}
        self.refused = 0
        self._reported = 0
        self._report_refused_at = self._report_full_at = 0.0

    @property
    def _next(self) -> float:
        """The start of a time that begins between two sweeps: the next sweep."""
        return self._now + self._limits.sweep_s

    # -- what a connection reports

    def admit(self, count: int) -> bool:
        """Whether a connection that makes them ``count`` may stay; one that may not is counted."""
        if self.has_room(count):
            return True
        self.refused += 1
        limit_reached("MAX_CONNECTIONS")
        return False

    def has_room(self, count: int) -> bool:
        """Whether there may be so many connections."""
        return self._most is None or count <= self._most

    @property
    def refusal(self) -> str:
        """The detail of a refused connection's 503."""
        return f"this front-end has {self._most} connections, as many as MAX_CONNECTIONS allows"

    def head_begins(self, connection: ArrivingRequest) -> None:
        """A head is due from now on; one that is due already keeps its deadline, also from another protocol."""
        known = self._heads.get(connection.transport)
        due = self._next + self._limits.head_timeout_s if known is None else known[0]
        self._heads[connection.transport] = due, connection  # one that is there keeps its place

    def head_ends(self, connection: ArrivingRequest) -> None:
        """The head has arrived."""
        self._heads.pop(connection.transport, None)

    def body_came(self, connection: ArrivingRequest, size: int) -> None:
        """So many bytes of an incomplete body have arrived; the first call starts its time."""
        body = self._bodies.get(connection)
        if body is None:
            body = self._bodies[connection] = _ArrivingBody(self._next, self._next)
        body.fresh += size

    def body_ends(self, connection: ArrivingRequest) -> None:
        """The body is whole."""
        self._bodies.pop(connection, None)

    def forget(self, connection: ArrivingRequest) -> None:
        """The connection is gone."""
        self._heads.pop(connection.transport, None)
        self._bodies.pop(connection, None)

    # -- the sweep

    def sweep(self, descriptor: int) -> None:
        """Give up late requests, and log refused connections; to be called every ``sweep_s``.

        ``descriptor``: any open one.
        """
        self._now += self._limits.sweep_s
        for transport, (due, connection) in tuple(self._heads.items()):
            if due > self._now:
                break
            del self._heads[transport]
            if connection.is_responding:
                self.head_begins(connection)
            else:
                limit_reached("HEAD_TIMEOUT_S")
                connection.give_up()
        for connection, body in tuple(self._bodies.items()):
            if self._is_late(connection, body):
                del self._bodies[connection]
                connection.give_up()
        self._report(descriptor)

    def _is_late(self, connection: ArrivingRequest, body: _ArrivingBody) -> bool:
        now, limit_s = self._now, self._limits.body_timeout_s
        if connection.is_paused:
            body.silent_since = body.measured_since = now
            body.fresh = body.measured = 0
            return False
        if connection.is_response_complete:
            body.answered_since = now if body.answered_since is None else body.answered_since
            if now - body.answered_since >= limit_s:
                limit_reached("BODY_TIMEOUT_S")
                return True
        if body.fresh:
            body.silent_since = now
            body.measured += body.fresh
            body.fresh = 0
        if now - body.silent_since >= limit_s:
            limit_reached("BODY_TIMEOUT_S")
            return True
        if now - body.measured_since < limit_s:
            return False
        is_slow = body.measured < self._limits.body_min_bytes_per_s * limit_s
        body.measured_since, body.measured = now, 0
        if is_slow:
            limit_reached("BODY_MIN_BYTES_PER_S")
        return is_slow

    def _report(self, descriptor: int) -> None:
        if self.refused > self._reported and self._now >= self._report_refused_at:
            _log.warning("connections_refused", refused=self.refused - self._reported, max_connections=self._most)
            self._reported, self._report_refused_at = self.refused, self._now + REPORT_EVERY_S
        if self._now >= self._report_full_at:
            try:
                os.close(os.dup(descriptor))
            except OSError as error:
                # libuv closes the connections that it cannot accept, and reports nothing.
                _log.error("connections_not_accepted", reason=error.strerror)
                self._report_full_at = self._now + REPORT_EVERY_S
