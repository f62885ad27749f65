"""``show``: the events of a stream → one output of a cell, which is replaced as they come.

Rules
1. The output is drawn at most every ``DRAW_S``, and no faster than ``DRAWN_BYTES_PER_S``: Jupyter drops the output of a
   kernel that sends more. The newest state is always drawn, also when the stream pauses, and at the end.
2. Reading is the caller's iterator: it reconnects, and it ends with the stream. What it raises is drawn and raised.
3. A cell that is interrupted ends the reading, and its output shows how far it came.
4. A gap that makes entries void takes what they said out of the output: ``rewound`` those behind its cursor, ``reset``
   all. ``attempt`` drops all that came before it, and what was missing there is not missing any more.
5. The newest attempt's entries are kept for that, up to ``KEPT_ENTRIES``. Beyond it ``rewound`` drops all, and the
   output says that events are missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable
from contextlib import aclosing
from importlib import import_module
from typing import Any, Final

from broadcaster.client.stream import EntryReceived, GapReceived, Notice, Reconnecting, StreamEvent
from broadcaster.core.cursor import Cursor
from broadcaster.core.events import Attempt
from broadcaster.core.fold import Fold, FoldState
from broadcaster.errors import SetupError
from broadcaster.jupyter.html import Drawing, drawn_html, drawn_text
from broadcaster.process.tasks import end_tasks

DRAW_S: Final = 0.1
# Jupyter's own limit is 1 MB/s (`iopub_data_rate_limit`), for all cells of a kernel.
DRAWN_BYTES_PER_S: Final = 250_000
KEPT_ENTRIES: Final = 20_000
_RESET: Final = "reset"
_VOIDING: Final = ("rewound", _RESET)
_STALLED: Final = "hub.stalled"


async def show(events: AsyncIterable[StreamEvent]) -> FoldState:
    """Draw a stream until it ends; returns what it amounts to: ``text``, ``parts``, ``status``, ``usage``, …

    ``events`` are those of ``Broadcaster.events`` or ``AsyncClient.events``. With ``notices=True`` the output also
    shows when the writer is silent. Raises TypeError for another object, SetupError without IPython, and what
    ``events`` raises.
    """
    if not isinstance(events, AsyncIterable):
        raise TypeError(f'show takes events, not {type(events).__name__}: await show(broadcaster.events("job-42"))')
    watched = _Watched()
    output = _Output(watched)
    drawing = asyncio.create_task(output.draw_changes())
    try:
        async for event in _closing(events):
            watched.take(event)
            output.changed.set()
    except BaseException as error:
        watched.note = "interrupted" if isinstance(error, asyncio.CancelledError) else f"not read to its end: {error}"
        raise
    finally:
        await end_tasks(drawing)
        output.draw()
    return watched.state


async def _closing(events: AsyncIterable[StreamEvent]) -> AsyncGenerator[StreamEvent, None]:
    """The events; a generator is closed with the cell, and not when Python collects it."""
    if isinstance(events, AsyncGenerator):
        async with aclosing(events):
            async for event in events:
                yield event
    else:
        async for event in events:
            yield event


class _Watched:
    """What was received, and the notices about it."""

    def __init__(self) -> None:
        self._fold = Fold()
        self._is_whole = True
        self._entries: list[EntryReceived] | None = []  # rule 5; None: there are more
        self.note = ""

    @property
    def state(self) -> FoldState:
        return self._fold.state

    @property
    def drawing(self) -> Drawing:
        return Drawing(self._fold.state, note=self.note, is_whole=self._is_whole)

    def take(self, event: StreamEvent) -> None:
        self.note = ""
        match event:
            case EntryReceived(event=entry, raw=raw):
                if isinstance(entry, Attempt):
                    self._entries, self._is_whole = [], True
                self._fold.apply(raw)
                self._keep(event)
            case GapReceived(reason=reason, cursor=cursor) if reason in _VOIDING:
                self._void_after(cursor, is_reset=reason == _RESET)
            case GapReceived():
                self._is_whole = False
            case Reconnecting(delay_s=delay_s):
                self.note = f"reconnecting in {delay_s:.0f} s"
            case Notice(name=name, data={"reason": str(reason)}) if name == _STALLED:
                self.note = f"no news from the writer ({reason})"

    def _keep(self, entry: EntryReceived) -> None:
        if self._entries is not None and len(self._entries) < KEPT_ENTRIES:
            self._entries.append(entry)
        else:
            self._entries = None

    def _void_after(self, cursor: Cursor, *, is_reset: bool) -> None:
        """Rules 4 and 5. Of a stream that was made anew nothing was received: its entries begin behind the cursor."""
        if is_reset or self._entries is None:
            self._entries, self._is_whole = [], cursor.seq == 0
        else:
            self._entries = [each for each in self._entries if each.cursor.seq <= cursor.seq]
            self._is_whole = self._is_whole or cursor.seq == 0
        self._fold = Fold()
        for each in self._entries:
            self._fold.apply(each.raw)


class _Output:
    """The output of the cell."""

    def __init__(self, watched: _Watched) -> None:
        self.changed = asyncio.Event()
        self._watched = watched
        self._sent_bytes = 0
        self._handle = _display()(self._bundle(), raw=True, display_id=True)

    async def draw_changes(self) -> None:
        """Rule 1."""
        while True:
            await self.changed.wait()
            self.changed.clear()
            self.draw()
            await asyncio.sleep(max(DRAW_S, self._sent_bytes / DRAWN_BYTES_PER_S))

    def draw(self) -> None:
        """Replace the output."""
        self._handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        drawing = self._watched.drawing
        bundle = {"text/html": drawn_html(drawing), "text/plain": drawn_text(drawing)}
        self._sent_bytes = sum(len(text.encode()) for text in bundle.values())
        return bundle


def _display() -> Any:
    """IPython's ``display``: a kernel has it, the base install has not."""
    try:
        return import_module("IPython.display").display
    except ModuleNotFoundError as error:
        raise SetupError(
            "show draws in a notebook, and IPython is not installed: pip install ipykernel; without a notebook, read "
            "the stream with `async for event in broadcaster.events(…)`"
        ) from error
