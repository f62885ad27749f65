"""One door to Redis: how we connect, which errors mean "later", and how a script is run.

Rules
1. redis-py never retries by itself (``Retry(NoBackoff(), 0)``): a silent second send of a script whose reply was lost
   doubles what the script did. Our scripts are idempotent by number, and the caller decides when to send again.
2. The pool blocks for a free connection, up to the same time limit as an answer; it never raises "too many".
3. Blocking reads get a connection pool of their own whose socket time-out exceeds their block time.
4. Which kind of Redis the URL names is decided here, and nowhere else: one server has redis-py's own client, Sentinels
   and clusters have ours (routed.py), with the same commands.
5. ``later(error)`` is the one place that tells a Redis that cannot serve now from a caller's mistake.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from redis import exceptions as rex
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.connection_types import CONNECTION_TYPES
from broadcaster.log.keys import Keys
from broadcaster.log.nodes import NodeLimits
from broadcaster.log.pipeline import LogPipeline
from broadcaster.log.redis_url import Kind, RedisUrl
from broadcaster.log.routed import Identity, RoutedPipeline, RoutedRedis, Sight
from broadcaster.log.routes import create_routes

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

# Words of such answers when redis-py has no type of its own for them (script errors, pipelines). "non local key": the
# slot is being migrated, and a key that the script needs is at the other server already.
_LATER_WORDS: Final = (
    "TRYAGAIN", "ASK ", "MOVED ", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "OOM ", "NOSCRIPT", "MISCONF",
    "NOREPLICAS", "BUSY ", "UNBLOCKED", "non local key",
)  # fmt: skip

_FINAL_TYPES: Final = (rex.AuthenticationError, rex.AuthorizationError, rex.NoPermissionError)


def later(error: BaseException) -> bool:
    """Whether the same command may succeed later, unchanged: the generation has not failed."""
    if isinstance(error, _FINAL_TYPES):
        return False
    if isinstance(error, _LATER_TYPES):
        return True
    # Not startswith: a pipeline puts the command before the server's words.
    return isinstance(error, rex.ResponseError) and any(word in str(error) for word in _LATER_WORDS)


def is_silence(error: LogUnavailable) -> bool:
    """Whether the server was not heard at all: whoever asks it for something else waits as long again."""
    return isinstance(error.__cause__, rex.ConnectionError | rex.TimeoutError | OSError)


@contextmanager
def log_errors() -> Iterator[None]:
    """Turn "later" errors of Redis into LogUnavailable; let everything else through."""
    try:
        yield
    except Exception as error:
        if later(error):
            raise LogUnavailable("the log does not answer now; try again") from error
        raise


def _create_single(url: str, limits: NodeLimits, *, answers_s: float) -> Redis:
    """redis-py's client with our settings."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=limits.max_connections,
        timeout=limits.timeout_s,
        socket_timeout=answers_s,
        socket_connect_timeout=limits.connect_timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=False,
    )
    pool.connection_class = CONNECTION_TYPES[pool.connection_class]
    return Redis.from_pool(pool)


class LogConnection:
    """What every class of this room is given: a client, the key names and the address.

    On a cluster ``redis`` sends each command to the server of its key; without one it is for nobody (see routed.py).
    ``impatient`` is for calls that rest on what Redis has shown before (a lease that was missing for long enough): none
    is kept back until after a failover, and sent then.
    """

    def __init__(
        self, url: str, *, prefix: str, timeout_s: float, max_connections: int, patience_s: float | None = None
    ) -> None:
        """``max_connections`` to each server. Raises SetupError when the URL cannot be read.

        ``patience_s``: for how long a call is repeated that no server began (a failover, a slot on its way); a worker,
        which comes again with everything it has, has none. None: ``timeout_s``. One server is never asked twice.
        """
        self.url = url
        self.address = RedisUrl.parse(url)
        self.keys = Keys(prefix)
        self.timeout_s = timeout_s
        self._patience_s = timeout_s if patience_s is None else patience_s
        self._clients: list[Redis] = []
        self._routes = None if self.address.kind is Kind.SINGLE else create_routes(self.address)
        self.redis = self.create_client(timeout_s=timeout_s, max_connections=max_connections, patience_s=patience_s)
        self.impatient: Redis = self.redis.impatient() if isinstance(self.redis, RoutedRedis) else self.redis

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        prefix: str = "bc",
        timeout_s: float = 5.0,
        max_connections: int = 32,
        patience_s: float | None = None,
    ) -> AsyncIterator[LogConnection]:
        """Connections are made when first needed: opening does not fail while Redis is away."""
        connection = cls(
            url, prefix=prefix, timeout_s=timeout_s, max_connections=max_connections, patience_s=patience_s
        )
        try:
            yield connection
        finally:
            await connection.aclose()

    def create_client(self, *, timeout_s: float, max_connections: int, patience_s: float | None = 0.0) -> Redis:
        """Another client, with connections of its own, closed with this connection at the latest.

        ``timeout_s`` bounds each answer.
        """
        limits = NodeLimits(timeout_s, min(_CONNECT_TIMEOUT_S, timeout_s), max_connections)
        client: Redis
        if self._routes is None:
            client = _create_single(self.url, limits, answers_s=timeout_s)
        else:
            patience_s = self._patience_s if patience_s is None else patience_s
            client = RoutedRedis(self.address, self._routes, limits, patience_s=patience_s)
        self._clients.append(client)
        return client

    def create_blocking_client(self, *, block_s: float) -> Redis:
        """A client for reads that block up to ``block_s``: its time-out lies beyond, so that it never cuts a read."""
        return self.create_client(timeout_s=block_s + _BLOCK_MARGIN_S, max_connections=2)

    def pipeline(self) -> LogPipeline:
        """Calls that leave together; it may also be asked for the clock of a key's server."""
        if isinstance(self.redis, RoutedRedis):
            return RoutedPipeline(self.redis)
        return LogPipeline(self.redis.connection_pool, self.redis.response_callbacks)

    def server_of(self, key: str) -> str:
        """A name for the server of a key: calls with one name share its fate. Nothing is asked."""
        return (self.redis.server_of(key) or "") if isinstance(self.redis, RoutedRedis) else ""

    async def primaries(self) -> Mapping[str, Redis]:
        """A client of every server that serves now, by its name. Raises what redis-py raises."""
        return await self.redis.primaries() if isinstance(self.redis, RoutedRedis) else {"": self.redis}

    @property
    def replicas(self) -> tuple[str, ...] | None:
        """The servers that stand by in a cluster, as the last look told; None: nobody of whom we ask knows."""
        if self._routes is None or self.address.kind is not Kind.CLUSTER:
            return None
        return self._routes.replicas

    async def ping(self) -> None:
        """Raises LogUnavailable when Redis (each server that serves) does not answer within the time limit."""
        with log_errors():
            for client in (await self.primaries()).values():
                await client.ping()

    async def check(self) -> None:
        """Whether we may come in: as ``ping``, and raises SetupError when Redis refuses us or is none."""
        try:
            await self.ping()
        except _FINAL_TYPES as error:
            raise SetupError(f"Redis refuses us: {error}; correct the user and password in its URL") from error
        except rex.InvalidResponse as error:
            raise SetupError("what answers there is no Redis; correct the address") from error

    async def aclose(self) -> None:
        """Close every connection."""
        for client in self._clients:
            await client.aclose()
        if self._routes is not None:
            await self._routes.aclose()


async def identities(client: Redis, *, probe_key: Callable[[int], str], look_within_s: float) -> Mapping[str, Sight]:
    """Every server that serves and takes writes, with its run, the client's connection to it, and its clock.

    A caller that finds the same identities twice has lost no server, no connection and no role between. The routes are
    looked at again when the last look is older than ``look_within_s``. Each server is made to remove one of the keys
    that ``probe_key`` numbers, which are never written. Raises what redis-py raises.
    """
    if isinstance(client, RoutedRedis):
        return await client.identities(probe_key=probe_key, look_within_s=look_within_s)
    pipeline = client.pipeline(transaction=False)
    pipeline.client_id()
    pipeline.info("server")
    pipeline.time()
    pipeline.delete(probe_key(0))
    loop = asyncio.get_running_loop()
    asked_at = loop.time()
    connection_id, server, time, _ = await pipeline.execute()
    return {"": Sight.of(Identity(connection_id, server["run_id"]), time, asked_at=asked_at, told_at=loop.time())}
