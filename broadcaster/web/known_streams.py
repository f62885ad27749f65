"""Streams that were found a moment ago: a crowd that comes at once has each of them looked up once.

Rules
1. Who asks while a look is under way waits for its answer. A look that began before may be older than the caller's own
   deed (it has just created the stream): "unknown" from such a look is looked for again.
2. What was found counts for ``KNOWN_S`` while this front-end holds the stream open. Whatever would change the answer
   (its end, its deletion, which ends it) is told by its feed first; and a stream never changes its tenant.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from broadcaster.errors import UnknownStream
from broadcaster.log.streams import Meta

KNOWN_S: Final = 10.0

_Key = tuple[str, str]


class _Look(NamedTuple):
    began_at: float
    task: asyncio.Task[Meta]


class KnownStreams:
    """One for a front-end. ``look`` asks the log for a tenant's stream; ``is_open`` says whether its feed is heard."""

    def __init__(
        self, look: Callable[[str, str], Awaitable[Meta]], *, is_open: Callable[[str], bool], max_streams: int
    ) -> None:
        self._look = look
        self._is_open = is_open
        self._max_streams = max_streams
        self._known: dict[_Key, tuple[Meta, float]] = {}  # until when
        self._looks: dict[_Key, _Look] = {}

    async def find(self, stream_id: str, *, tenant: str) -> Meta:
        """The stream's meta. Raises what the look raises."""
        key = (stream_id, tenant)
        came_at = asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is not None and came_at < known[1] and self._is_open(known[0].id):
            return known[0]
        while True:
            look = self._looks.get(key) or self._begin(key)
            await asyncio.wait({look.task})
            try:
                return look.task.result()
            except UnknownStream:
                if look.began_at >= came_at:
                    raise

    def _begin(self, key: _Key) -> _Look:
        look = _Look(asyncio.get_running_loop().time(), asyncio.ensure_future(self._run(key)))
        self._looks[key] = look
        look.task.add_done_callback(partial(self._end, key))
        return look

    async def _run(self, key: _Key) -> Meta:
        return await self._look(*key)

    def _end(self, key: _Key, task: asyncio.Task[Meta]) -> None:
        """Runs before those who wait for it go on."""
        del self._looks[key]
        self._known.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            if len(self._known) >= self._max_streams:
                self._forget()
            self._known[key] = (task.result(), asyncio.get_running_loop().time() + KNOWN_S)

    def _forget(self) -> None:
        """What is not open here any more; and the older half, should all be."""
        self._known = {key: known for key, known in self._known.items() if self._is_open(known[0].id)}
        for key in list(self._known)[: max(0, len(self._known) - self._max_streams // 2)]:
            del self._known[key]
