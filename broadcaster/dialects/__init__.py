"""Dialects: the stream shapes that providers and clients speak, one file each, pure.

``decode`` turns theirs into ours, ``encode`` ours into theirs. ``ENCODERS`` is the table of what a viewer may ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Protocol

from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, StallReason
from broadcaster.dialects.native import NATIVE, NativeEncoder

__all__ = ["ENCODERS", "NATIVE", "Encoder", "NativeEncoder"]


class Encoder(Protocol):
    """Entries and the hub's notices → frames of one dialect with one set of options.

    Frames are shared by all viewers whose encoders are equal, so an encoder hashes by its dialect and options (or is
    the same object for them), and a frame depends on its entry alone. A notice that the dialect cannot say is ``b""``.
    """

    @property
    def name(self) -> str:
        """The dialect's name in ``ENCODERS``."""

    @property
    def heartbeat(self) -> bytes:
        """What keeps a quiet connection open."""

    def frame(self, entry: Entry) -> bytes: ...

    def hello(self, stream_id: str, *, status: str, retry_ms: int) -> bytes: ...

    def live(self) -> bytes: ...

    def gap(self, gap: Gap) -> bytes: ...

    def stalled(self, reason: StallReason | None) -> bytes: ...

    def bye(self, reason: str, *, reconnect: bool, retry_ms: int) -> bytes: ...


ENCODERS: Final[Mapping[str, Encoder]] = MappingProxyType({NATIVE.name: NATIVE})
