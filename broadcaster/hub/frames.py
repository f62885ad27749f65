"""Frames that viewers share: encoded once, counted once, and given to each transport a slice at a time."""

from __future__ import annotations

from typing import Final

from broadcaster.core.http_chunks import http_chunk
from broadcaster.hub.ring import Ledger, Unsent

_NOTHING: Final = memoryview(b"")


class SharedFrames:
    """Frames as one HTTP chunk and without it, in the same memory.

    The ledger counts them from the first ``hold`` to the last ``release``.
    """

    __slots__ = ("_body", "_chunk", "_holders", "_ledger")

    def __init__(self, frames: bytes, *, ledger: Ledger) -> None:
        self._chunk = http_chunk(frames) if frames else b""
        begin = self._chunk.find(b"\n") + 1
        self._body = memoryview(self._chunk)[begin : begin + len(frames)]
        self._ledger = ledger
        self._holders = 0

    def __len__(self) -> int:
        """Bytes held."""
        return len(self._chunk)

    def read(self, *, for_http: bool) -> bytes | memoryview:
        """All of it, as the driver writes it."""
        return self._chunk if for_http else self._body

    def hold(self) -> None:
        """One more reader."""
        self._holders += 1
        if self._holders == 1:
            self._ledger.add(len(self._chunk))

    def release(self) -> None:
        """A reader is done."""
        self._holders -= 1
        if not self._holders:
            self._ledger.add(-len(self._chunk))


class Outlet:
    """What one viewer's driver has begun to take: a slice at a time of frames that others may be reading too."""

    __slots__ = ("_rest", "_shared", "_unsent", "_unsent_bytes")

    def __init__(self, unsent: Unsent) -> None:
        self._unsent = unsent
        self._unsent_bytes = 0
        self._rest = _NOTHING
        self._shared: SharedFrames | None = None

    def __bool__(self) -> bool:
        """Whether something that was begun is not given away yet."""
        return bool(self._rest)

    @property
    def slice_bytes(self) -> int:
        """The most that a transport is given at once."""
        return self._unsent.slice_bytes

    def put(self, frames: bytes | memoryview) -> None:
        """Begin these; nothing else is begun."""
        self._rest = memoryview(frames)

    def begin(self, frames: bytes | memoryview, max_bytes: int) -> memoryview:
        """Begin these, and give their first bytes away."""
        self.put(frames)
        return self.slice(max_bytes)

    def slice(self, max_bytes: int) -> memoryview:
        """The next bytes."""
        piece, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return piece

    def share(self, frames: SharedFrames, *, for_http: bool) -> bytes | memoryview:
        """Read these, and hold them until ``let_go``."""
        frames.hold()
        self._shared = frames
        return frames.read(for_http=for_http)

    def let_go(self) -> None:
        """What was shared has been given away."""
        if self._shared is not None:
            self._shared.release()
            self._shared = None

    def note_unsent(self, count: int) -> None:
        """The driver's transport holds so many bytes."""
        if count != self._unsent_bytes:
            self._unsent.add(count - self._unsent_bytes)
            self._unsent_bytes = count

    def close(self) -> None:
        """Nothing is given away any more."""
        self._rest = _NOTHING
        self.let_go()
        self.note_unsent(0)
