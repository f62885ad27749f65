"""Streams that were found a moment ago: viewers that come together share one look-up of each stream.

Rules
1. A caller that comes during a look-up waits for its result. A look-up that began before may be older than the caller's
   own creation of the stream: after "unknown" from such a look-up, another one follows.
2. A result counts for ``KNOWN_S`` while this front-end has the stream open. Its tail reports every change (its end; its
   deletion, which ends it) first; and a stream never changes its tenant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from broadcaster.errors import UnknownStream
from broadcaster.log.streams.reader import Meta

KNOWN_S: Final = 10.0

_Key = tuple[str, str]


class _Lookup(NamedTuple):
    began_at: float
    task: asyncio.Task[Meta]


class KnownStreams:
    """One for a front-end. ``lookup`` reads a tenant's stream from the log; ``is_open``: whether its room is open."""

    def __init__(
        self, lookup: Callable[[str, str], Awaitable[Meta]], *, is_open: Callable[[str], bool], max_streams: int
    ) -> None:
        self._fetch = lookup
        self._is_open = is_open
        self._max_streams = max_streams
        self._found: dict[_Key, tuple[Meta, float]] = {}  # until when
        self._lookups: dict[_Key, _Lookup] = {}

    def recall(self, stream_id: str, *, tenant: str) -> Meta | None:
        """The stream's meta, if it need not be looked up (rule 2)."""
        found = self._found.get((stream_id, tenant))
        if found is None or asyncio.get_running_loop().time() >= found[1] or not self._is_open(found[0].id):
            return None
        return found[0]

    async def find(self, stream_id: str, *, tenant: str) -> Meta:
        """The stream's meta. Raises what the look-up raises."""
        known = self.recall(stream_id, tenant=tenant)
        if known is not None:
            return known
        key = (stream_id, tenant)
        came_at = asyncio.get_running_loop().time()
        while True:
            lookup = self._lookups.get(key) or self._begin(key)
            await asyncio.wait({lookup.task})
            try:
                return lookup.task.result()
            except UnknownStream:
                if lookup.began_at >= came_at:
                    raise

    def _begin(self, key: _Key) -> _Lookup:
        lookup = _Lookup(asyncio.get_running_loop().time(), asyncio.ensure_future(self._fetch(*key)))
        self._lookups[key] = lookup
        lookup.task.add_done_callback(partial(self._end, key))
        return lookup

    def _end(self, key: _Key, task: asyncio.Task[Meta]) -> None:
        """Runs before the callers that wait for it resume."""
        del self._lookups[key]
        self._found.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            if len(self._found) >= self._max_streams:
                self._forget()
            self._found[key] = (task.result(), asyncio.get_running_loop().time() + KNOWN_S)

    def _forget(self) -> None:
        """Drop streams that are not open here any more; and the older half, if all are."""
        self._found = {key: found for key, found in self._found.items() if self._is_open(found[0].id)}
        for key in list(self._found)[: max(0, len(self._found) - self._max_streams // 2)]:
            del self._found[key]
