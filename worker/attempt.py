"""One attempt: a claimed generation, run at its provider and appended to its log until it is over.

| what comes first | how it ends |
|---|---|
| the provider's own terminal event | ``finish`` |
| the provider fails | ``usage`` (estimated), ``error`` with the stable reason |
| somebody stops it, or all have left it | provider closed at once, ``usage`` (estimated), ``abort`` |
| the writer is over (fenced) | provider closed at once, nothing more is written: the stream has another owner |
| the writer is over (full, log lost) | provider closed at once; the writer has written the error itself |
| the deadline | provider closed at once, ``error generation_timeout`` |
| the worker drains | provider closed at once, the right to write is given back |
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import structlog

from broadcaster.core.events import Abort, Error, Event, Finish, Usage
from broadcaster.errors import ProviderFailed, UnknownModel
from broadcaster.log.streams import Meta
from broadcaster.log.writer import StreamWriter, WriterEnd
from worker.providers.base import ProviderRequest, ProviderStream
from worker.providers.registry import Providers

_log = structlog.get_logger(__name__)

DEFAULT_MAX_TOKENS: Final = 1024
_TERMINALS: Final = (Finish, Error, Abort)


class AttemptEnd(Enum):
    """How an attempt left its generation."""

    OVER = "the terminal event is in the log"
    LOST = "another worker owns the stream now"
    HANDED_BACK = "the drain stopped it; nothing was ended"


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """Time limits of one attempt, in seconds."""

    generation_timeout_s: float
    append_deadline_s: float


class Attempt:
    """Runs once; ``hand_back`` asks it to let go for a drain."""

    def __init__(self, meta: Meta, writer: StreamWriter, *, providers: Providers, times: AttemptTimes) -> None:
        self._meta = meta
        self._writer = writer
        self._providers = providers
        self._times = times
        self._handed_back = asyncio.Event()
        self._stream: ProviderStream | None = None
        self._last: Sequence[Event] = ()

    @property
    def writer(self) -> StreamWriter:
        """Its way into the log."""
        return self._writer

    def hand_back(self) -> None:
        """Let go of the provider and write nothing more; the caller gives the stream back."""
        self._handed_back.set()

    async def run(self) -> AttemptEnd:
        """Run to one of the ends in the table. Raises TimeoutError when the log did not take the end in time."""
        drive = asyncio.create_task(self._drive())
        signals = {
            asyncio.create_task(_until(event)): event
            for event in (self._writer.over, self._writer.stop_requested, self._handed_back)
        }
        try:
            done, _ = await asyncio.wait(
                {drive, *signals},
                timeout=self._times.generation_timeout_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if drive not in done:
                await _cancel(drive)
        finally:
            for task in (drive, *signals):
                await _cancel(task)
        return await self._end(drive)

    async def _end(self, drive: asyncio.Task[None]) -> AttemptEnd:
        writer = self._writer
        if writer.end_reason in (WriterEnd.FENCED, WriterEnd.CRASHED):
            return AttemptEnd.LOST
        finished = not drive.cancelled()
        if self._handed_back.is_set() and not finished:
            return AttemptEnd.HANDED_BACK
        events = self._outcome(drive) if finished else self._cut_short()
        await writer.end(events, deadline_s=self._times.append_deadline_s)
        return AttemptEnd.LOST if writer.end_reason in (WriterEnd.FENCED, WriterEnd.CRASHED) else AttemptEnd.OVER

    def _outcome(self, drive: asyncio.Task[None]) -> Sequence[Event]:
        """The last events after the provider's stream ended by itself, well or badly."""
        error = drive.exception()
        if error is None:
            return self._last
        if isinstance(error, ProviderFailed):
            _log.warning("provider_failed", stream=self._meta.id, reason=error.reason, detail=error.detail)
            return [*self._usage(), Error(error_text=error.detail, code=error.reason)]
        if isinstance(error, UnknownModel):
            return [Error(error_text=error.detail, code=error.code)]
        _log.error("attempt_crashed", stream=self._meta.id, exc_info=error)
        return [*self._usage(), Error(error_text="the worker met an unexpected error", code="internal_error")]

    def _cut_short(self) -> Sequence[Event]:
        """The last events of a provider stream that we closed."""
        if self._writer.stop_requested.is_set():
            return [*self._usage(), Abort(reason=self._writer.stop_reason)]
        return [*self._usage(), Error(error_text="the answer took longer than it may", code="generation_timeout")]

    def _usage(self) -> Sequence[Usage]:
        usage = self._stream.usage_so_far() if self._stream is not None else None
        return [usage] if usage is not None else []

    async def _drive(self) -> None:
        """Provider → writer. Returns once the provider's own terminal was seen, kept back in ``_last``."""
        provider = await self._providers.for_model(self._meta.model)
        async with provider.stream(provider_request(self._meta)) as stream:
            self._stream = stream
            async for events in stream:
                if events and isinstance(events[-1], _TERMINALS):
                    self._last = events
                    return
                self._writer.write(events)
        raise ProviderFailed("the provider's answer ended without its end", reason="provider_truncated")


def provider_request(meta: Meta) -> ProviderRequest:
    """The stored request in the words of a provider; what has no word of its own goes along as ``extra``."""
    fields = dict(meta.request)
    fields.pop("metadata", None)  # the caller's own, not the provider's
    return ProviderRequest(
        model=meta.model,
        messages=fields.pop("messages", []),
        max_tokens=fields.pop("max_tokens", DEFAULT_MAX_TOKENS),
        system=fields.pop("system", None),
        temperature=fields.pop("temperature", None),
        tools=fields.pop("tools", None) or (),
        extra=fields,
    )


async def _until(event: asyncio.Event) -> None:
    await event.wait()


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel and wait until its clean-up is done; its result stays in the task."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})


def start(coroutine: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Start a task, held in ``tasks`` while it runs."""
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
