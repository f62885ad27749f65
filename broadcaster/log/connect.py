"""One door to Redis: how we connect, which errors mean "later", and how a script is run.

Rules
1. redis-py never retries by itself (``Retry(NoBackoff(), 0)``): a silent second send of a script whose reply was lost
   doubles what the script did. Our scripts are idempotent by number, and the caller decides when to send again.
2. The pool blocks for a free connection, up to the same time limit as an answer; it never raises "too many".
3. Blocking reads get a connection pool of their own whose socket time-out exceeds their block time.
4. ``later(error)`` is the one place that tells a Redis that cannot serve now from a caller's mistake.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from redis import exceptions as rex
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.connection_types import CONNECTION_TYPES
from broadcaster.log.keys import Keys

_BLOCK_MARGIN_S: Final = 5.0

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

# Words a server begins such answers with when redis-py has no type of its own for them (script errors, pipelines).
_LATER_WORDS: Final = (
    "TRYAGAIN", "ASK ", "MOVED ", "CLUSTERDOWN", "LOADING", "READONLY", "MASTERDOWN", "OOM ", "NOSCRIPT", "MISCONF",
    "NOREPLICAS", "BUSY ", "UNBLOCKED",
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


@contextmanager
def log_errors() -> Iterator[None]:
    """Turn "later" errors of Redis into LogUnavailable; let everything else through."""
    try:
        yield
    except Exception as error:
        if later(error):
            raise LogUnavailable("the log does not answer now; try again") from error
        raise


def create_client(url: str, *, timeout_s: float | None, max_connections: int, connect_timeout_s: float = 5.0) -> Redis:
    """A redis-py client with our settings. ``timeout_s`` bounds each answer (None: no bound)."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=timeout_s or connect_timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=min(connect_timeout_s, timeout_s or connect_timeout_s),
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        decode_responses=False,
    )
    pool.connection_class = CONNECTION_TYPES[pool.connection_class]
    return Redis(connection_pool=pool)


class LogConnection:
    """What every class of this room is given: a client, the key names and the URL."""

    def __init__(self, url: str, *, prefix: str, timeout_s: float, max_connections: int) -> None:
        self.url = url
        self.keys = Keys(prefix)
        self.timeout_s = timeout_s
        self.redis = create_client(url, timeout_s=timeout_s, max_connections=max_connections)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, *, prefix: str = "bc", timeout_s: float = 5.0, max_connections: int = 32
    ) -> AsyncIterator[LogConnection]:
        """Connections are made when first needed: opening does not fail while Redis is away."""
        connection = cls(url, prefix=prefix, timeout_s=timeout_s, max_connections=max_connections)
        try:
            yield connection
        finally:
            await connection.aclose()

    def create_blocking_client(self, *, block_s: float) -> Redis:
        """A client for reads that block up to ``block_s``: its time-out lies beyond, so that it never cuts a read."""
        return create_client(self.url, timeout_s=block_s + _BLOCK_MARGIN_S, max_connections=2)

    async def ping(self) -> None:
        """Raises LogUnavailable when Redis does not answer within the time limit."""
        with log_errors():
            await self.redis.ping()

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
        await self.redis.aclose()
        await self.redis.connection_pool.disconnect()
