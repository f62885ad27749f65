"""Deleting everything under one prefix: what a test has left in a server."""

from __future__ import annotations

from typing import Final

from broadcaster.log.redis.connect import LogConnection, log_errors

_SCANNED_AT_ONCE: Final = 1000


async def erase_prefix(connection: LogConnection, prefix: str) -> int:
    """Delete every key whose name begins with ``prefix:``; returns how many. Raises LogUnavailable.

    It scans the whole keyspace of each server: the time grows with everything that is stored there.
    """
    erased = 0
    with log_errors():
        for server in (await connection.primaries()).values():
            cursor = None
            while cursor != 0:
                cursor, found = await server.scan(cursor or 0, match=f"{prefix}:*", count=_SCANNED_AT_ONCE)
                pipeline = server.pipeline(transaction=False)
                for key in found:  # one key each: the keys of a cluster's server are not of one slot
                    pipeline.delete(key)
                await pipeline.execute()
                erased += len(found)
    return erased
