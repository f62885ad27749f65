"""The tool runner: one call of a tool, from the model's arguments to its output. One for all generations of a worker.

Rules
1. A call is begun only when there is room for it. Its function runs only after ``begin`` has returned: by then the log
   contains that it may have run. If that takes longer than CONFIRM_S, the call gives its room back until then: a log
   that is away keeps no room from other generations.
2. Every end of a function becomes an output: its value, the text of its ToolError, or a text of the runner. Only a
   cancellation has no output.
3. After a cancellation or a timeout the runner waits at most LET_GO_S for an ``async`` function, and not for a thread.
   A function that does not end keeps its room until it ends; its result is dropped, and this is logged.
4. A plain function may return an awaitable, as a decorator of an ``async`` function does. It is awaited in the loop, in
   the time and the room of the call. The decorator itself may block, so it runs in the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeAlias

from broadcaster.core import events as ev
from broadcaster.observability.limits import limit_reached
from broadcaster.observability.logs import get_logger
from broadcaster.process.tasks import in_daemon_thread
from worker.tools import BadArguments, BadOutput, Tool, ToolBox, ToolContext, ToolError, as_json
from worker.tools.steps import Output, RequestedCall

_log = get_logger(__name__)

CONFIRM_S: Final = 1.0
LET_GO_S: Final = 1.0
FAILED: Final = "the tool failed"
_MAX_ERROR_CHARS: Final = 10_000
_NOT_STARTED: Final = "the tool could not be started"
_NO_JSON: Final = "the tool's output cannot be encoded as JSON"
_TOO_LARGE: Final = "the tool's output is larger than an event may be"

# How a function ended: with its value, or with an exception.
_Came: TypeAlias = tuple[Any, BaseException | None]


@dataclass(frozen=True, slots=True)
class ToolBounds:
    """``concurrency`` counts the calls of the whole worker; ``timeout_s`` is for tools without their own."""

    concurrency: int = 100
    timeout_s: float = 60.0
    max_output_bytes: int = 2**20


class ToolRunner:
    """See the module's rules."""

    def __init__(self, box: ToolBox, bounds: ToolBounds) -> None:
        self.box = box
        self._bounds = bounds
        self._room = asyncio.Semaphore(bounds.concurrency)
        self._going: set[asyncio.Task[_Came]] = set()
        self.outcomes: Counter[str] = Counter()

    async def run(
        self, call: RequestedCall, tool: Tool, context: ToolContext, *, begin: Callable[[], Awaitable[None]]
    ) -> Output:
        """The output of a call; see the rules. A second call of ``begin`` must only wait for the log."""
        output = await self._run(call, tool, context, begin=begin)
        self.outcomes["error" if isinstance(output, ev.ToolOutputError) else "output"] += 1
        return output

    async def _run(
        self, call: RequestedCall, tool: Tool, context: ToolContext, *, begin: Callable[[], Awaitable[None]]
    ) -> Output:
        if call.fault is not None:
            return _error(call, call.fault)
        progress = _ProgressSink(context, self._bounds.max_output_bytes)
        try:
            arguments = tool.bind(call.input, replace(context, tell=progress.emit))
        except BadArguments as error:
            return _error(call, str(error))
        except Exception as error:  # of a validator
            return _error(call, _error_text(error, call, context))
        await self._begin(begin)
        try:
            work = self._start(tool, arguments)
        except RuntimeError as error:  # no thread can be started now
            self._room.release()
            _log.error("tool_not_started", stream=context.generation_id, tool=call.name, error=str(error))
            return _error(call, _NOT_STARTED)
        try:
            came = await self._wait(work, tool, call, context=context)
        finally:
            progress.is_over = True
        return self._output(came, call, context)

    async def _begin(self, begin: Callable[[], Awaitable[None]]) -> None:
        """Take room for a call and begin it (rule 1)."""
        await self._take_room()
        try:
            async with asyncio.timeout(CONFIRM_S):
                return await begin()
        except BaseException as error:
            self._room.release()
            if not isinstance(error, TimeoutError):
                raise
        await begin()
        return await self._take_room()

    async def _take_room(self) -> None:
        if self._room.locked():
            limit_reached("TOOL_CONCURRENCY")
        await self._room.acquire()

    def _start(self, tool: Tool, arguments: dict[str, Any]) -> _Work:
        """Begin the function; its room is released when it ends."""
        function = partial(tool.function, **arguments)
        if tool.is_async:
            work = _Work(self._room.release, running=1)
            work.task = asyncio.create_task(_guarded(function))
        else:
            # In its own thread: a function that hangs delays neither the others nor the worker's end.
            work = _Work(self._room.release, running=2)
            thread = in_daemon_thread(partial(_guarded_call, function), name=f"tool-{tool.name}", on_end=work.end)
            work.task = asyncio.create_task(_awaited(thread))
        work.task.add_done_callback(work.end)
        self._going.add(work.task)
        work.task.add_done_callback(self._going.discard)
        return work

    async def _wait(self, work: _Work, tool: Tool, call: RequestedCall, *, context: ToolContext) -> _Came:
        timeout_s = tool.timeout_s or self._bounds.timeout_s
        done: set[asyncio.Task[_Came]] = set()
        try:
            done, _ = await asyncio.wait({work.task}, timeout=timeout_s)
        finally:
            if not done:
                await self._let_go(work, tool, context)
        if not done:
            if tool.timeout_s is None:
                limit_reached("TOOL_TIMEOUT_S")
            return None, _TimedOut(f"the tool did not answer within {timeout_s:g} s")
        # The function has cancelled itself.
        return (None, asyncio.CancelledError()) if work.task.cancelled() else work.task.result()

    async def _let_go(self, work: _Work, tool: Tool, context: ToolContext) -> None:
        """Rule 3. The task that waits for a thread ends at once; the function in the thread runs on."""
        work.task.cancel()
        await asyncio.wait({work.task}, timeout=LET_GO_S)
        if work.running:
            _log.warning("tool_goes_on", stream=context.generation_id, tool=tool.name, key=context.idempotency_key)

    def _output(self, came: _Came, call: RequestedCall, context: ToolContext) -> Output:
        value, error = came
        if error is not None:
            return _error(call, _error_text(error, call, context))
        try:
            plain = as_json(value)
        except BadOutput as error:
            _log.warning("tool_output_refused", stream=context.generation_id, tool=call.name, type=str(error))
            return _error(call, _NO_JSON)
        except Exception as error:  # of the value's own code
            return _error(call, _error_text(error, call, context))
        output = ev.ToolOutputAvailable(tool_call_id=call.id, output=plain)
        if len(ev.encode_event(output)) > self._bounds.max_output_bytes:
            limit_reached("MAX_EVENT_BYTES")
            return _error(call, _TOO_LARGE)
        return output


@dataclass(eq=False, slots=True)
class _Work:
    """A call under way; ``running`` counts what has not ended of it: its task, and its thread if it has one."""

    release: Callable[[], None]
    running: int
    task: asyncio.Task[_Came] = field(init=False)

    def end(self, *_: object) -> None:
        """One of them has ended."""
        self.running -= 1
        if self.running == 0:
            self.release()


class _TimedOut(ToolError):
    """The error of the runner for a function that did not end in time."""


class _ProgressSink:
    """Receives the progress of a running call, from the loop or from a thread; drops it once the call is over."""

    def __init__(self, context: ToolContext, max_bytes: int) -> None:
        self.is_over = False
        self._give = context.tell
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()

    def emit(self, event: ev.Event) -> None:
        if len(ev.encode_event(event)) > self._max_bytes:
            raise BadOutput(_TOO_LARGE)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the thread still runs
            self._loop.call_soon_threadsafe(self._deliver, event)

    def _deliver(self, event: ev.Event) -> None:
        if not self.is_over:
            self._give(event)


async def _guarded(function: Callable[[], Awaitable[Any]]) -> _Came:
    try:
        return await function(), None
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # a call must not end the worker
        return None, error


def _guarded_call(function: Callable[[], Any]) -> _Came:
    try:
        return function(), None
    except BaseException as error:  # any error: the caller waits
        return None, error


async def _awaited(thread: asyncio.Future[_Came]) -> _Came:
    """How the function in the thread ended, or the awaitable that it returned (rule 4)."""
    value, error = await thread
    return await _guarded(lambda: value) if inspect.isawaitable(value) else (value, error)


def _error(call: RequestedCall, text: str) -> ev.ToolOutputError:
    return ev.ToolOutputError(tool_call_id=call.id, error_text=text)


def _error_text(error: BaseException, call: RequestedCall, context: ToolContext) -> str:
    """The text that the model and the viewers may see: other exceptions may contain anything."""
    if isinstance(error, ToolError):
        text = str(error)[:_MAX_ERROR_CHARS] or FAILED
        what = "tool_timed_out" if isinstance(error, _TimedOut) else "tool_refused"
        _log.info(what, stream=context.generation_id, tool=call.name, key=context.idempotency_key)
        return text.encode("utf-8", "replace").decode()
    _log.warning(
        "tool_failed", stream=context.generation_id, tool=call.name, key=context.idempotency_key, exc_info=error
    )
    return FAILED
