"""A blocking call that a signal handler leaves by an exception, and the loop of the process, which keeps running."""

from __future__ import annotations

import asyncio
import threading

from broadcaster.process.blocking import BackgroundTask, call_blocking
from broadcaster.process.loop_thread import _ProcessLoop
from broadcaster.process.thread_event import Once
from tests.support.interruptions import DEADLINE_S, at_each_point, interrupted, raise_time_is_up
from tests.support.log.held_log import until_so


async def soon() -> str:
    await asyncio.sleep(0)
    return "done"


def test_an_event_is_set_after_each_wait_that_was_left_by_an_exception() -> None:
    def wait(at: int) -> bool:
        once = Once()
        is_reached = interrupted(lambda: once.wait(0.001), raise_time_is_up, at=at)
        setting = threading.Thread(target=once.set, daemon=True)
        setting.start()
        setting.join(DEADLINE_S / 2)
        assert not setting.is_alive()
        assert once.wait(0)
        return is_reached

    at_each_point(wait)


def test_the_loop_runs_the_next_call_after_each_that_was_left_by_an_exception() -> None:
    def call(at: int) -> bool:
        is_reached = interrupted(lambda: call_blocking(soon, limit_s=DEADLINE_S), raise_time_is_up, at=at)
        assert call_blocking(soon, limit_s=DEADLINE_S / 2) == "done"
        return is_reached

    at_each_point(call)


def test_a_task_whose_leaving_was_left_by_an_exception_is_cancelled_by_the_next_one() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    def leave(at: int) -> bool:
        task = BackgroundTask(hang)
        is_reached = interrupted(task.leave, raise_time_is_up, at=at)
        task.leave()
        until_so(task._has_ended.is_set)
        return is_reached

    at_each_point(leave)


def test_a_first_call_inside_a_first_call_has_the_one_thread_of_the_process() -> None:
    def begin(at: int) -> bool:
        process = _ProcessLoop()
        made = []
        is_reached = interrupted(
            lambda: made.append(process.loop_thread()), lambda: made.append(process.loop_thread()), at=at
        )
        assert set(made) == {process.loop_thread()}
        made[0].end()
        return is_reached

    at_each_point(begin)
