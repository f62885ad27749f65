"""The chunks of one source → one answer of ours; a source may hold several answers of a model, as steps.

Rules
1. The first chunk decides the format; a chunk of another format, and text among chunks, is refused. Other events pass.
2. Only the first answer has a ``start``, and only the end of the source a ``finish``: a program that calls tools yields
   the chunks of several answers. Each has its ``start-step`` and ``finish-step``; ``usage`` includes earlier answers.
3. Before the output of a tool, and before an end that the program yields, an answer that is whole is closed: its calls
   come before their outputs.
4. The source's end is an end of the answer only if the answer is whole: otherwise ``provider_truncated``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from broadcaster.core import events as ev
from broadcaster.core.events import Event
from broadcaster.core.providers.metering import total_usage
from broadcaster.dialects.errors import TRUNCATED
from broadcaster.library.sources.formats import Format, ItemDecoder, format_of

_CLOSED_BY = ("tool-output", "finish", "error", "abort")


class Answers:
    """See the module's rules."""

    def __init__(self, container: Any) -> None:
        """``container`` yields the chunks."""
        self.container = container
        self._format: Format | None = None
        self._decoder: ItemDecoder | None = None
        self._is_closed = False
        self._is_later = False
        self._before: ev.Usage | None = None
        self._end: ev.Finish | None = None

    @property
    def is_begun(self) -> bool:
        """Whether a chunk has come."""
        return self._decoder is not None

    @property
    def is_whole(self) -> bool:
        """Whether the newest answer is complete."""
        return self._decoder is not None and self._decoder.is_whole

    def decode(self, item: Any) -> list[Event]:
        """The events of a chunk. Raises TypeError (rule 1), ProviderFailed."""
        found = format_of(item)
        if self._format is None or self._decoder is None:
            self._format, self._decoder = found, found.create(self.container)
        if found is not self._format:
            raise TypeError(f"a chunk of {found.name} among chunks of {self._format.name}: publish them apart")
        out: list[Event] = []
        if self._is_closed or self._decoder.begins_another(item):
            out += self._close()
            self._before = self.usage_so_far()
            self._decoder, self._is_closed, self._is_later = found.create(self.container), False, True
        return [*out, *self._fitted(self._decoder.decode(item))]

    def before(self, piece: str | Mapping[str, Any] | Event) -> list[Event]:
        """The events before a piece that is no chunk (rule 3). Raises TypeError for a text among chunks."""
        if not self.is_begun:
            return []
        if isinstance(piece, str):
            name = self._format.name if self._format else ""
            raise TypeError(f"a text among chunks of {name}: publish either, or the text as an event of its own")
        kind = piece.get("type") if isinstance(piece, Mapping) else msgspec.to_builtins(piece).get("type")
        return self._close() if isinstance(kind, str) and kind.startswith(_CLOSED_BY) else []

    def end(self) -> list[Event]:
        """The events after the last chunk. Raises ProviderFailed if the answer is not whole (rule 4)."""
        if not self.is_begun:
            return []
        if not self.is_whole:
            raise TRUNCATED.failure()
        closing = self._close()
        return [*closing, self._end] if self._end is not None else closing

    def usage_so_far(self) -> ev.Usage | None:
        """The counts of all answers known now; None before the first chunk."""
        if self._decoder is None:
            return None
        usage = self._decoder.usage_so_far()
        return usage if self._before is None else total_usage([self._before, usage])

    def _close(self) -> list[Event]:
        if self._decoder is None or self._is_closed or not self._decoder.is_whole:
            return []
        self._is_closed = True
        return self._fitted(self._decoder.flush())

    def _fitted(self, events: Iterable[Event]) -> list[Event]:
        """Rule 2."""
        out: list[Event] = []
        for event in events:
            match event:
                case ev.Finish():
                    self._end = event
                case ev.Start() if self._is_later:
                    pass
                case ev.Usage() if self._before is not None:
                    out.append(total_usage([self._before, event]))
                case _:
                    out.append(event)
        return out
