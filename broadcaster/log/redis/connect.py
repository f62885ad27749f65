"""The client of Redis: how connections are made, and which errors mean "later".

Rules
1. redis-py never retries by itself (``Retry(NoBackoff(), 0)``): a silent second send of a script whose reply was lost
   doubles what the script did. Our scripts are idempotent by number, and the caller decides when to retry.
2. The pool blocks for a free connection, up to the same time limit as a reply; it never raises "too many".
3. Blocking reads get a connection pool of their own whose socket time-out exceeds their block time.
4. Only this module decides by the kind of Redis: one server has a client of one node (client.py), Sentinels and
   clusters have one of many (placed_client.py), with the same commands.
5. Only ``later(error)`` distinguishes a Redis that cannot serve now from a caller's mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Final

import structlog  # noqa: F401 - a process that is out of descriptors could not import it for its first line
from redis import exceptions as rex
from redis.asyncio import Redis

from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.redis.client import LogRedis, NodeRedis
from broadcaster.log.redis.keys import KeyNames
from broadcaster.log.redis.pipeline import LogPipeline
from broadcaster.log.redis.topology.nodes import LOGIN_REFUSED, LoginRefusals, Node, NodeLimits
from broadcaster.log.redis.topology.placed_client import Identity, PlacedRedis, ServerSample
from broadcaster.log.redis.topology.topology import SingleTopology, Topology, create_topology
from broadcaster.log.redis.url import RedisKind, RedisUrl
from broadcaster.observability.limits import limit_reached

_BLOCK_MARGIN_S: Final = 5.0
_CONNECT_TIMEOUT_S: Final = 5.0

_LATER_TYPES: Final = (
    rex.ConnectionError,
    rex.TimeoutError,
    rex.BusyLoadingError,
    rex.ReadOnlyError,
    rex.TryAgainError,
    rex.ClusterDownError,
    rex.MasterDownError,
    rex.OutOfMemoryError,
    rex.NoScriptError,
    rex.AskError,
    rex.MovedError,
    OSError,
    TimeoutError,
)

# Texts of such errors for which redis-py has no type (script errors, pipelines). "non local key": the slot is
# migrating, and a key that the script needs is at the other server already.
_LATER_TEXTS: Final = (
    "TRYAGAIN", "ASK ", "MOVED ", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "OOM ", "NOSCRIPT", "MISCONF",
    "NOREPLICAS", "BUSY ", "UNBLOCKED", "non local key",
)  # fmt: skip

_TIMED_OUT: Final = (rex.TimeoutError, TimeoutError)

# What a pool's error says when no connection became free in time.
_NO_CONNECTION: Final = "No connection available"


def later(error: BaseException) -> bool:
    """Whether the same command may succeed later, unchanged: the generation has not failed."""
    if isinstance(error, LOGIN_REFUSED):
        return False
    if isinstance(error, _LATER_TYPES):
        return True
    # Not startswith: a pipeline puts the command before the server's text.
    return isinstance(error, rex.ResponseError) and any(text in str(error) for text in _LATER_TEXTS)


def count_limit(error: BaseException) -> None:
    """Count the limit that this "later" error shows: no reply in time, no free connection, or a full Redis."""
    if isinstance(error, rex.ConnectionError) and _NO_CONNECTION in str(error):
        limit_reached("REDIS_CONNECTIONS")
    elif isinstance(error, _TIMED_OUT) or isinstance(error.__cause__, _TIMED_OUT):
        limit_reached("REDIS_TIMEOUT_S")
    elif isinstance(error, rex.OutOfMemoryError) or (isinstance(error, rex.ResponseError) and "OOM " in str(error)):
        limit_reached("EMBEDDED_MAX_MEMORY_BYTES")


def is_silence(error: LogUnavailable) -> bool:
    """Whether the server sent nothing at all: the next request to it would wait just as long."""
    return isinstance(error.__cause__, rex.ConnectionError | rex.TimeoutError | OSError)


@contextmanager
def log_errors() -> Iterator[None]:
    """Turn "later" errors of Redis into LogUnavailable; let everything else through."""
    try:
        yield
    except Exception as error:
        if later(error):
            count_limit(error)
            raise LogUnavailable("the log does not answer now; try again") from error
        raise


@contextmanager
def refusals() -> Iterator[None]:
    """Turn the errors of a server that will never serve us as we are into SetupError; let everything else through."""
    try:
        yield
    except LOGIN_REFUSED as error:
        raise SetupError(f"Redis refuses us: {error}; correct the user and password in its URL") from error
    except rex.InvalidResponse as error:
        raise SetupError("the server at this address is not a Redis; correct the address") from error


async def reply_to(call: Any) -> Any:
    """The reply to a call of redis-py (whose types do not say that it is awaitable). Raises as ``log_errors`` does."""
    with log_errors():
        return await call


class LogConnection(AbstractAsyncContextManager["LogConnection"]):
    """The connection that the classes of ``log`` share: a client, the key names, the address and the topology.

    ``async with`` it, or call ``aclose``. Connections are made when first needed, so it can be opened while Redis is
    away.

    On a cluster ``redis`` sends each command to the server of its key; without a key it is refused (placed_client.py).
    ``impatient`` is for calls that rest on an earlier reply of Redis (a lease that was missing for long enough): they
    are never held back and sent after a failover.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "bc",
        timeout_s: float = 5.0,
        max_connections: int = 32,
        patience_s: float | None = None,
        outlives_refusals: bool = False,
    ) -> None:
        """``max_connections`` to each server. Raises SetupError when the URL cannot be read.

        ``patience_s``: for how long a call that no server began (a failover, a migrating slot) is repeated; None means
        ``timeout_s``. A worker, which retries with everything it has, passes 0. A single server gets each call once.

        ``outlives_refusals``: a refused login, too, means "later", and is logged (nodes.py, rule 3).
        """
        self.url = url
        self.address = RedisUrl.parse(url)
        self.keys = KeyNames(prefix)
        self.timeout_s = timeout_s
        self._patience_s = timeout_s if patience_s is None else patience_s
        self._refusals = LoginRefusals() if outlives_refusals else None
        self._clients: list[LogRedis] = []
        topology = create_topology(self.address)
        self.topology: Topology = topology
        self._placement = None if isinstance(topology, SingleTopology) else topology
        self.redis = self.create_client(timeout_s=timeout_s, max_connections=max_connections, patience_s=patience_s)
        # Checked once: the bases of redis-py's clients are protocols, of which a check costs a microsecond.
        self._placed = self.redis if isinstance(self.redis, PlacedRedis) else None
        self.impatient: LogRedis = self.redis if self._placed is None else self._placed.impatient()

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    def create_client(self, *, timeout_s: float, max_connections: int, patience_s: float | None = 0.0) -> LogRedis:
        """Another client, with connections of its own, closed with this connection at the latest.

        ``timeout_s`` bounds each reply.
        """
        limits = NodeLimits(timeout_s, min(_CONNECT_TIMEOUT_S, timeout_s), max_connections, self._refusals)
        client: LogRedis
        if self._placement is None:
            client = NodeRedis(Node.of_url(self.url, limits))
        else:
            patience_s = self._patience_s if patience_s is None else patience_s
            client = PlacedRedis(self.address, self._placement, limits, patience_s=patience_s)
        self._clients.append(client)
        return client

    def create_blocking_client(self, *, block_s: float) -> LogRedis:
        """A client for reads that block up to ``block_s``: its time-out lies beyond, so that it never cuts a read."""
        return self.create_client(timeout_s=block_s + _BLOCK_MARGIN_S, max_connections=2)

    def pipeline(self) -> LogPipeline:
        """Calls that are sent together; it can also read the clock of a key's server."""
        return LogPipeline(self.redis)

    def server_of(self, key: str) -> str:
        """A name for the server of a key, without a request: a fault of the server concerns all calls with its name."""
        return "" if self._placed is None else self._placed.server_of(key) or ""

    async def primaries(self) -> Mapping[str, Redis]:
        """A client of every server that serves now, by its name. Raises what redis-py raises."""
        return {"": self.redis} if self._placed is None else await self._placed.primaries()

    @property
    def replicas(self) -> tuple[str, ...] | None:
        """The servers that stand by in a cluster, as of the last refresh; None: this kind does not show them."""
        if self._placement is None or self.address.kind is not RedisKind.CLUSTER:
            return None
        return self._placement.replicas

    async def ping(self) -> None:
        """Raises LogUnavailable when a server that serves does not answer within the time limit."""
        with log_errors():
            for client in (await self.primaries()).values():
                await client.ping()

    async def check(self) -> None:
        """As ``ping``, and raises SetupError when the server refuses us or is not a Redis."""
        with refusals():
            await self.ping()

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients:
            await client.aclose()
        if self._placement is not None:
            await self._placement.aclose()


async def identities(client: Redis, *, probe_key: Callable[[int], str], max_age_s: float) -> Mapping[str, ServerSample]:
    """Every server that serves and takes writes, with its run, the client's connection to it, and its clock.

    A caller that finds the same identities twice has lost no server, no connection and no role in between. A topology
    older than ``max_age_s`` is refreshed first. Each server removes one of the keys that ``probe_key`` numbers, which
    are never written. Raises what redis-py raises.
    """
    if isinstance(client, PlacedRedis):
        return await client.identities(probe_key=probe_key, max_age_s=max_age_s)
    pipeline = client.pipeline(transaction=False)
    pipeline.client_id()
    pipeline.info("server")
    pipeline.time()
    pipeline.delete(probe_key(0))
    loop = asyncio.get_running_loop()
    sent_at = loop.time()
    connection_id, server, time, _ = await pipeline.execute()
    return {
        "": ServerSample.of(Identity(connection_id, server["run_id"]), time, sent_at=sent_at, received_at=loop.time())
    }
