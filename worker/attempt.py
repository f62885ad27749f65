"""One attempt: a claimed generation, run at its provider and appended to its log until it is over.

| what comes first | how it ends |
|---|---|
| the provider's own terminal event | ``finish`` |
| the provider fails before its first content | retried (worker/retry.py); at last as below |
| the provider fails | ``usage`` (estimated), ``error`` with the stable reason |
| the same after content, with ``on_provider_loss: retry`` | another attempt begins, in this worker |
| a stop, or no viewer is left | provider closed and tools cancelled at once, ``usage`` (estimated), ``abort`` |
| the writer is over (fenced) | provider closed at once, nothing more is written: another worker owns the stream |
| the writer is over (full, log lost) | provider closed at once; the writer has written the error itself |
| a tool's outcome is unknown after a take-over (worker/tools/agent.py) | ``usage``, ``error tool_outcome_unknown`` |
| the deadline of the generation, all attempts together | provider closed at once, ``error generation_timeout`` |
| the worker's memory runs short, and this answer grows most | provider closed at once, ``error worker_out_of_memory`` |
| the worker drains | provider closed at once, the right to write is given back |
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from broadcaster.core.events import Abort, Error, Event, Finish, Usage
from broadcaster.core.providers.refusals import refusal_metadata
from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.core.requests.passed_calls import call_of
from broadcaster.core.requests.passed_headers import headers_of
from broadcaster.errors import ProviderFailed, ToolOutcomeUnknown, UnknownModel, UnknownTool
from broadcaster.log.streams.reader import Meta
from broadcaster.log.streams.writer import StreamWriter, WriterEnd
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from broadcaster.observability.tracing.spans import UNTRACED, Tracing
from broadcaster.process.tasks import end_tasks
from worker.observing.attempt_report import AttemptReport, CallFacts
from worker.providers.base import ProviderRequest
from worker.providers.registry import Providers
from worker.retry import ModelAnswer
from worker.tools.agent import AgentLoop, AgentSetup
from worker.tools.tool_set import names_a_tool

_log = get_logger(__name__)

DEFAULT_RETRY: Final = RetryBounds(retries=2, cap_s=20.0)
_TIMED_OUT: Final = "the answer took longer than it may"
_OUTGROWN: Final = "the worker's memory ran short while this answer grew"


class AttemptEnd(Enum):
    """How an attempt left its generation."""

    OVER = "the terminal event is in the log"
    LOST = "another worker owns the stream now"
    HANDED_BACK = "the drain stopped it; nothing was ended"
    RETRY = "the provider broke off, and the caller wants another attempt"


@dataclass(frozen=True, slots=True)
class AttemptTimes:
    """Time limits in seconds: ``generation_timeout_s`` for all attempts together, from the first start."""

    generation_timeout_s: float
    append_deadline_s: float


class GenerationAttempt:
    """Runs once. ``hand_back`` ends it for a drain.

    An attempt that ended with RETRY has written no end. The caller then creates another attempt in its place, or calls
    ``fail``.
    """

    def __init__(
        self,
        meta: Meta,
        writer: StreamWriter,
        *,
        providers: Providers,
        times: AttemptTimes,
        retry: RetryBounds = DEFAULT_RETRY,
        agent: AgentSetup | None = None,
        after: GenerationAttempt | None = None,
        tracing: Tracing = UNTRACED,
        leapt_s: float = 0.0,
    ) -> None:
        """``agent`` runs the worker's tools; ``after`` is the attempt that ended with RETRY before this one.

        ``leapt_s`` is how far Redis's clock has stepped forward meanwhile, which does not count as its time.
        """
        self.meta: Final = meta
        self.writer: Final = writer
        self._times = times
        own_deadline = asyncio.get_running_loop().time() + left_s(meta, times, epoch=writer.epoch, leapt_s=leapt_s)
        self.deadline: Final[float] = own_deadline if after is None else after.deadline
        """When the generation's time ends (loop time)."""
        self._report = AttemptReport(meta, epoch=writer.epoch, tracing=tracing)
        create = partial(
            ModelAnswer,
            providers=providers,
            bounds=retry,
            deadline=self.deadline,
            name=meta.id,
            facts=self._report.facts,
        )
        self._answer = _create_run(meta, writer, create, agent=agent, facts=self._report.facts)
        # Shared by all attempts of the generation in this worker: a drain may begin between two of them.
        self._handed_back: asyncio.Event = asyncio.Event() if after is None else after._handed_back
        self._outgrown = asyncio.Event()
        self._broke_off = None if after is None else after._failure
        self._failure: ProviderFailed | None = None
        self._last: Sequence[Event] = ()
        self._terminal: Event | None = None

    @property
    def trace_id(self) -> str | None:
        """The trace that it belongs to."""
        return self._report.trace_id

    @property
    def size_bytes(self) -> int:
        """The bytes that it has received from its provider and buffers for its log."""
        return self._answer.received_bytes + self.writer.size_bytes

    @property
    def usage(self) -> Usage | None:
        """The tokens that it has spent so far, without repeated steps; None: its provider has not answered."""
        return self._answer.spent_so_far()

    def fail_for_memory(self) -> None:
        """Close the provider and end with an error."""
        self._outgrown.set()

    def hand_back(self) -> None:
        """Close the provider and write nothing more; the caller gives the stream back."""
        self._handed_back.set()

    async def run(self) -> AttemptEnd:
        """Run to one of the ends in the table. Raises TimeoutError if the log does not accept the end in time."""
        drive = asyncio.create_task(self._drive())
        events = (self.writer.over, self.writer.stop_requested, self._handed_back, self._outgrown)
        signals = [asyncio.create_task(event.wait()) for event in events]
        try:
            timeout_s = max(0.0, self.deadline - asyncio.get_running_loop().time())
            await asyncio.wait({drive, *signals}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(drive, *signals)
        return await self._end(drive)

    async def _end(self, drive: asyncio.Task[None]) -> AttemptEnd:
        if self._is_lost():
            return AttemptEnd.LOST
        finished = not drive.cancelled()
        if self._handed_back.is_set() and not finished and self.writer.end_reason is None:
            return AttemptEnd.HANDED_BACK
        if finished and self._should_retry(drive.exception()):
            return AttemptEnd.RETRY
        return await self._write_end(self._outcome(drive) if finished else self._cut_short())

    async def fail(self) -> AttemptEnd:
        """End it after RETRY if no other may begin: with the stop that forbids it, or the provider's failure."""
        assert self._failure is not None
        is_stopped = self.writer.stop_requested.is_set()
        return await self._write_end(self._cut_short() if is_stopped else self._failed(self._failure))

    def report(self, end: AttemptEnd, *, reason: str | None = None) -> tuple[str, str | None]:
        """Write the line of this attempt; returns its outcome and reason.

        ``reason``: of an end that the log does not hold.
        """
        writer, terminal, outcome = self.writer, self._terminal, _OUTCOMES[end]
        if end is AttemptEnd.RETRY and self._failure is not None:
            reason = self._failure.reason
        elif writer.end_reason is not None:
            outcome, reason = "failed" if end is AttemptEnd.OVER else outcome, writer.end_reason.name.lower()
        elif end is AttemptEnd.OVER:
            outcome, reason = _ending(terminal)
        if isinstance(self._answer, AgentLoop):
            self._report.facts.steps = self._answer.steps
        self._report.write(outcome, reason, usage=self.usage, entries=writer.last_seq)
        return outcome, reason

    async def _write_end(self, events: Sequence[Event]) -> AttemptEnd:
        self._terminal = events[-1]
        await self.writer.end(events, deadline_s=self._times.append_deadline_s)
        return AttemptEnd.LOST if self._is_lost() else AttemptEnd.OVER

    def _is_lost(self) -> bool:
        return self.writer.end_reason in (WriterEnd.FENCED, WriterEnd.CRASHED)

    def _should_retry(self, error: BaseException | None) -> bool:
        """Whether another attempt replaces what the viewers have seen, as the caller chose."""
        if not isinstance(error, ProviderFailed) or not self._answer.has_begun or not error.retryable:
            return False
        self._failure = error
        return self.meta.on_provider_loss == "retry" and not self.writer.over.is_set()

    def _outcome(self, drive: asyncio.Task[None]) -> Sequence[Event]:
        """The last events after the provider's stream ended by itself, completely or with a failure."""
        error = drive.exception()
        if error is None:
            return self._last
        if isinstance(error, ProviderFailed):
            return self._failed(error)
        if isinstance(error, UnknownModel | UnknownTool | ToolOutcomeUnknown):
            return [*self._usage(), Error(error_text=error.detail, code=error.code)]
        _log.error("attempt_crashed", stream=self.meta.id, exc_info=error)
        return [*self._usage(), Error(error_text="the worker met an unexpected error", code="internal_error")]

    def _failed(self, failure: ProviderFailed) -> Sequence[Event]:
        """The last events after the provider failed."""
        # The text of a provider's refusal may quote the request.
        refusal = failure.refusal
        details = {"detail": failure.detail} if refusal is None else {"status": refusal.status}
        _log.warning("provider_failed", stream=self.meta.id, reason=failure.reason, **details)
        metadata = refusal_metadata(failure)
        return [*self._usage(), Error(error_text=failure.detail, code=failure.reason, provider_metadata=metadata)]

    def _cut_short(self) -> Sequence[Event]:
        """The last events of a provider stream that the worker closed."""
        if self.writer.stop_requested.is_set():
            return [*self._usage(), Abort(reason=self.writer.stop_reason)]
        if self._outgrown.is_set():
            return [*self._usage(), Error(error_text=_OUTGROWN, code="worker_out_of_memory")]
        if self.writer.end_reason is None:  # else the writer has ended the stream, and counted why
            limit_reached("GENERATION_TIMEOUT_S")
        return [*self._usage(), Error(error_text=_TIMED_OUT, code="generation_timeout")]

    def _usage(self) -> Sequence[Usage]:
        return [] if (usage := self._answer.usage_so_far()) is None else [usage]

    async def _drive(self) -> None:
        """Provider → writer. Returns when the provider's terminal event has arrived, which stays in ``_last``."""
        if asyncio.get_running_loop().time() >= self.deadline:
            limit_reached("GENERATION_TIMEOUT_S")
            raise ProviderFailed(_TIMED_OUT, reason="generation_timeout")
        if self._broke_off is not None:
            await self._answer.pause(self._broke_off)
        self._last = await self._answer.run(self.writer.write)


_OUTCOMES: Final = {
    AttemptEnd.OVER: "finished",
    AttemptEnd.LOST: "lost",
    AttemptEnd.HANDED_BACK: "handed_back",
    AttemptEnd.RETRY: "retried",
}


def _ending(terminal: Event | None) -> tuple[str, str | None]:
    """Outcome and reason of an attempt that has written this end."""
    match terminal:
        case Error():
            return "failed", terminal.code
        case Abort():
            return "aborted", terminal.reason
        case Finish():
            return "finished", terminal.finish_reason
    return "finished", None


def provider_request(meta: Meta) -> ProviderRequest:
    """The stored request as a provider takes it; fields without a place of their own are in ``extra``."""
    if (call := call_of(meta.request)) is not None:
        return ProviderRequest(
            model=meta.model, messages=(), extra=meta.request["body"], headers=headers_of(meta.request), call=call
        )
    fields = dict(meta.request)
    # Fields for the caller, for a front-end's surface and for the worker, not for the provider.
    for own in ("metadata", "surface", "max_steps"):
        fields.pop(own, None)
    return ProviderRequest(
        model=meta.model,
        messages=fields.pop("messages", []),
        max_tokens=fields.pop("max_tokens", None),
        system=fields.pop("system", None),
        temperature=fields.pop("temperature", None),
        tools=fields.pop("tools", None) or (),
        extra=fields,
        headers=headers_of(meta.request),
    )


def _create_run(
    meta: Meta,
    writer: StreamWriter,
    create: Callable[[ProviderRequest], ModelAnswer],
    *,
    agent: AgentSetup | None,
    facts: CallFacts,
) -> ModelAnswer | AgentLoop:
    """An agent loop if the request names a tool of the worker, otherwise one call of the provider."""
    request = provider_request(meta)
    if agent is None or not any(map(names_a_tool, request.tools)):
        return create(request)
    return AgentLoop(request, agent, writer, meta=meta, create_answer=create, facts=facts)


def left_s(meta: Meta, times: AttemptTimes, *, epoch: int, leapt_s: float) -> float:
    """What is left of a generation's time. A granted epoch is the time of its grant, by Redis's clock."""
    begun_ms = epoch if meta.started_ms is None else meta.started_ms
    return times.generation_timeout_s - max(0.0, (epoch - begun_ms) / 1000 - leapt_s)


def start(coroutine: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> asyncio.Task[None]:
    """Start a task, referenced by ``tasks`` while it runs."""
    task = asyncio.create_task(coroutine)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
    return task
