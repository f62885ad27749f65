"""One call of a tool: every end of a function is an output, and a function that does not end delays no other."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import BaseModel, computed_field, field_validator
from structlog.testing import capture_logs

from broadcaster.core import events as ev
from tests.support.log.log_world import until
from worker.tools import ToolBox, ToolContext, ToolError, tool
from worker.tools.steps import RequestedCall
from worker.tools.tool_runner import ToolBounds, ToolRunner

SECRET = "sk-very-secret"


async def begin() -> None:
    """The log knows of it."""


class Made:
    """A call made outside of a generation; ``emitted`` are its progress events."""

    def __init__(self, function: Callable[..., Any], *, bounds: ToolBounds | None = None, **options: Any) -> None:
        self.tool = tool(function, name="made", **options)
        self.runner = ToolRunner(ToolBox(self.tool), bounds or ToolBounds())
        self.emitted: list[ev.Event] = []

    async def run(
        self, input: Any = None, *, fault: str | None = None, begin: Callable[[], Awaitable[None]] = begin
    ) -> ev.ToolOutputAvailable | ev.ToolOutputError:
        call = RequestedCall(
            step=1, index=0, id="call_1", name="made", input={} if input is None else input, fault=fault
        )
        context = ToolContext(
            generation_id="gen_1",
            tenant="t",
            metadata={},
            step=1,
            index=0,
            tool_call_id="call_1",
            tell=self.emitted.append,
        )
        async with asyncio.timeout(20):
            return await self.runner.run(call, self.tool, context, begin=begin)


def error(text: str) -> ev.ToolOutputError:
    return ev.ToolOutputError(tool_call_id="call_1", error_text=text)


FAILED = error("the tool failed")


def raises(what: BaseException) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """A plain and an async function that raise it."""

    def plain() -> None:
        raise what

    async def waiting() -> None:
        raise what

    return plain, waiting


@pytest.mark.parametrize("at", [0, 1], ids=["plain", "async"])
@pytest.mark.parametrize(
    ("what", "emitted"),
    [
        (ToolError("no such city"), error("no such city")),
        (ToolError(""), FAILED),
        (ToolError("half a pair \ud800"), error("half a pair ?")),
        (RuntimeError(SECRET), FAILED),
        (StopIteration(SECRET), FAILED),
        (TimeoutError(SECRET), FAILED),
        (SystemExit(SECRET), FAILED),
        (KeyboardInterrupt(SECRET), FAILED),
        (asyncio.CancelledError(SECRET), FAILED),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, BaseException) else "",
)
async def test_any_exception_of_a_function_is_an_output_and_only_a_tool_error_has_text(
    what: BaseException, emitted: ev.ToolOutputError, at: int
) -> None:
    with capture_logs():
        assert await Made(raises(what)[at]).run() == emitted


async def test_the_value_that_a_function_returns_is_the_output() -> None:
    assert await Made(lambda: {"a": (1, 2)}).run() == ev.ToolOutputAvailable(
        tool_call_id="call_1", output={"a": [1, 2]}
    )


async def test_an_output_that_is_not_json_is_an_error() -> None:
    with capture_logs() as logs:
        assert await Made(object).run() == error("the tool's output cannot be encoded as JSON")
    assert logs[0]["event"] == "tool_output_refused"


class Torn(BaseModel):
    """A value of which one property has a defect."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def degrees(self) -> float:
        """Fails."""
        raise ZeroDivisionError(SECRET)


async def test_a_value_that_fails_while_it_is_encoded_fails_its_call_alone() -> None:
    with capture_logs() as logs:
        assert await Made(Torn).run() == FAILED
    assert [each["event"] for each in logs] == ["tool_failed"]


async def test_an_output_larger_than_an_event_may_be_is_an_error() -> None:
    made = Made(lambda: "x" * 200, bounds=ToolBounds(max_output_bytes=200))
    assert await made.run() == error("the tool's output is larger than an event may be")


async def test_nothing_is_begun_for_arguments_that_do_not_fit() -> None:
    async def refuse() -> None:
        raise AssertionError("begun")

    def take(x: int) -> int:
        """Takes one."""
        return x

    refused = await Made(take).run({"x": "no"}, begin=refuse)
    assert isinstance(refused, ev.ToolOutputError)
    assert refused.error_text.startswith("the arguments do not fit: x: ")
    assert await Made(take).run("{", fault="not JSON", begin=refuse) == error("not JSON")


class Broken(BaseModel):
    """A model whose validator has a defect."""

    n: int

    @field_validator("n")
    @classmethod
    def _fails(cls, n: int) -> int:
        raise RuntimeError(SECRET)


async def test_a_validator_with_a_defect_fails_its_call_alone() -> None:
    def take(x: Broken) -> None:
        """Takes one."""

    with capture_logs():
        assert await Made(take).run({"x": {"n": 1}}) == FAILED


async def test_a_thread_that_takes_too_long_is_left_and_keeps_its_room_until_it_ends() -> None:
    go_on = threading.Event()
    made = Made(lambda: go_on.wait(10) and "late", bounds=ToolBounds(concurrency=1, timeout_s=0.02))
    with capture_logs() as logs:
        assert await made.run() == error("the tool did not answer within 0.02 s")
    assert [each["event"] for each in logs] == ["tool_goes_on", "tool_timed_out"]
    second = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    assert not second.done()
    go_on.set()
    assert await second == ev.ToolOutputAvailable(tool_call_id="call_1", output="late")


async def test_a_call_that_is_cancelled_before_it_has_begun_gives_its_room_back() -> None:
    made = Made(lambda: 1, bounds=ToolBounds(concurrency=1))
    standing = asyncio.Event()

    async def stand() -> None:
        standing.set()
        await asyncio.Event().wait()

    first = asyncio.create_task(made.run(begin=stand))
    await standing.wait()
    first.cancel()
    await asyncio.wait({first})
    assert isinstance(await made.run(), ev.ToolOutputAvailable)


async def test_a_call_whose_log_does_not_answer_leaves_its_room_to_others_and_runs_when_it_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.tools.tool_runner.CONFIRM_S", 0.02)
    made = Made(lambda: 1, bounds=ToolBounds(concurrency=1))
    confirmed, beginnings = asyncio.Event(), list[str]()

    async def wait_for_the_log() -> None:
        beginnings.append("first")
        await confirmed.wait()

    first = asyncio.create_task(made.run(begin=wait_for_the_log))
    await until(lambda: bool(beginnings))
    assert isinstance(await made.run(), ev.ToolOutputAvailable)
    assert not first.done()
    confirmed.set()
    assert isinstance(await first, ev.ToolOutputAvailable)
    assert isinstance(await made.run(), ev.ToolOutputAvailable)  # it has given its room back


async def test_a_tool_for_which_no_thread_can_be_started_has_an_error_as_its_output(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    made = Made(lambda: 1, bounds=ToolBounds(concurrency=1))
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(threading.Thread, "start", refuse)
        assert await made.run() == error("the tool could not be started")
    assert [each["event"] for each in logs] == ["tool_not_started"]
    assert isinstance(await made.run(), ev.ToolOutputAvailable)


async def test_an_async_function_is_cancelled_with_its_call_and_its_clean_up_is_waited_for() -> None:
    begun, cleaned = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    task = asyncio.create_task(Made(hold).run())
    await begun.wait()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    assert cleaned.is_set()


def plainly(function: Callable[..., Any]) -> Callable[..., Any]:
    """An ordinary decorator."""

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        return function(*args, **options)

    return call


@pytest.mark.parametrize("at", [0, 1], ids=["plain", "async"])
async def test_a_function_under_a_plain_decorator_ends_as_without_it(at: int) -> None:
    async def look_up() -> list[object]:
        return [21, threading.current_thread() is threading.main_thread()]

    assert await Made(plainly(look_up)).run() == ev.ToolOutputAvailable(tool_call_id="call_1", output=[21, True])
    with capture_logs():
        assert await Made(plainly(raises(ToolError("no such city"))[at])).run() == error("no such city")
        assert await Made(plainly(raises(SystemExit(SECRET))[at])).run() == FAILED


async def test_an_async_function_that_a_decorator_makes_blocking_stays_in_its_thread() -> None:
    async def look_up() -> str:
        return threading.current_thread().name

    @functools.wraps(look_up)
    def block() -> str:
        return asyncio.run(look_up())

    assert await Made(block).run() == ev.ToolOutputAvailable(tool_call_id="call_1", output="tool-made")


async def test_an_async_function_under_a_plain_decorator_has_the_time_and_the_room_of_its_call() -> None:
    order: list[str] = []

    async def hold() -> None:
        order.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append("cleaned")

    made = Made(plainly(hold), bounds=ToolBounds(concurrency=1, timeout_s=0.2))
    with capture_logs() as logs:
        outputs = [*await asyncio.gather(made.run(), made.run())]
    assert outputs == 2 * [error("the tool did not answer within 0.2 s")]
    assert order == 2 * ["begun", "cleaned"]
    assert [each["event"] for each in logs] == 2 * ["tool_timed_out"]


async def test_progress_after_the_end_of_a_call_is_dropped() -> None:
    kept: list[ToolContext] = []

    async def speak(context: ToolContext) -> None:
        kept.append(context)
        await context.progress("now")

    made = Made(speak)
    await made.run()
    kept[0].progress_nowait("late")
    await asyncio.sleep(0)
    assert [each.data for each in made.emitted if isinstance(each, ev.DataEvent)] == ["now"]


async def test_progress_larger_than_an_event_may_be_fails_the_call() -> None:
    async def speak(context: ToolContext) -> None:
        await context.progress("x" * 300)

    with capture_logs():
        assert await Made(speak, bounds=ToolBounds(max_output_bytes=300)).run() == FAILED


async def test_progress_from_a_thread_arrives_in_its_order() -> None:
    def speak(context: ToolContext) -> None:
        for number in range(5):
            context.progress_nowait(number)

    made = Made(speak)
    await made.run()
    assert [each.data for each in made.emitted if isinstance(each, ev.DataEvent)] == [0, 1, 2, 3, 4]


async def test_a_thread_knows_the_context_of_its_call() -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")
    user.set("u1")
    assert await Made(lambda: user.get()).run() == ev.ToolOutputAvailable(tool_call_id="call_1", output="u1")


async def test_a_thread_of_a_tool_never_keeps_the_process() -> None:
    seen: list[bool] = []
    await Made(lambda: seen.append(threading.current_thread().daemon)).run()
    assert seen == [True]
    await until(lambda: not any(each.name == "tool-made" for each in threading.enumerate()))
    assert sys.exc_info() == (None, None, None)
