"""A topology that a test gives and changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from broadcaster.log.redis.address import Dialer


class GivenTopology:
    """Implements ``Topology``: nodes by name, and which serves a channel, as the test sets it."""

    def __init__(self, dialers: Mapping[str, Dialer], node_of: Callable[[str], str | None]) -> None:
        self._dialers = dict(dialers)
        self._node_of = node_of
        self._callbacks: list[Callable[[], None]] = []
        self.suspicions = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(self._dialers)

    def node_of(self, key: str) -> str | None:
        return self._node_of(key)

    def dialer(self, node: str) -> Dialer:
        return self._dialers[node]

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def suspect(self) -> None:
        self.suspicions += 1

    async def run(self) -> None:
        return None

    def change(
        self, dialers: Mapping[str, Dialer] | None = None, node_of: Callable[[str], str | None] | None = None
    ) -> None:
        """From now on these serve; followers are notified."""
        self._dialers = dict(self._dialers if dialers is None else dialers)
        self._node_of = node_of or self._node_of
        for callback in self._callbacks:
            callback()
