"""Every framework against the product itself: one test for each case, judged by the same rules for every row."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import pytest

from tests.compat.node_clients import Json
from tests.frameworks.drivers import Drivers
from tests.frameworks.judging import (
    judge_left,
    judge_lost,
    judge_plain,
    judge_stream,
    judge_structured,
    judge_tools,
)
from tests.frameworks.model import CITY_PROMPT, PIECES, PROMPT, WEATHER_PROMPT
from tests.frameworks.rows import ERRORS, LOST, PLAIN, STOP, STREAM, STRUCTURED, TOOLS, Row
from tests.frameworks.serving import ENDED_S, Serving
from tests.frameworks.table import rows

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFUSALS: Final = (400, 401, 429, 503)
PART: Final = PIECES[0]

Judge = Callable[[Row, Json], None]
Record = Callable[[str, object], None]


@asynccontextmanager
async def _given_up(call: asyncio.Task[Json]) -> AsyncIterator[None]:
    """A job that the test no longer waits for is over when the test is."""
    try:
        yield
    finally:
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)


async def run_on_every_wire(
    serving: Serving, drivers: Drivers, row: Row, *, action: str, prompt: str, judge: Judge, record: Record
) -> None:
    """Judge the row's answers of models on each wire.

    A row with a reason is run against the provider itself, which must not satisfy it either.
    """

    async def answer(url: str, wire: str) -> None:
        judge(row, await drivers.request(row, action, url=url, model=serving.model(wire), prompt=prompt))

    if reason := row.reasons.get(action):
        with pytest.raises(AssertionError):
            await answer(serving.provider_url, row.surface)
        record("reason", reason)
        return
    await asyncio.gather(*(answer(serving.url, wire) for wire in row.wires))


@rows(PLAIN)
async def test_a_whole_answer_arrives_with_its_finish_reason(
    serving: Serving, drivers: Drivers, row: Row, record_property: Record
) -> None:
    await run_on_every_wire(
        serving, drivers, row, action=PLAIN, prompt=PROMPT, judge=judge_plain, record=record_property
    )


@rows(STREAM)
async def test_the_deltas_of_a_stream_make_the_text(
    serving: Serving, drivers: Drivers, row: Row, record_property: Record
) -> None:
    await run_on_every_wire(
        serving, drivers, row, action=STREAM, prompt=PROMPT, judge=judge_stream, record=record_property
    )


@rows(TOOLS)
async def test_a_tool_is_called_and_its_result_is_answered(
    serving: Serving, drivers: Drivers, row: Row, record_property: Record
) -> None:
    await run_on_every_wire(
        serving, drivers, row, action=TOOLS, prompt=WEATHER_PROMPT, judge=judge_tools, record=record_property
    )


@rows(STRUCTURED)
async def test_an_object_arrives_parsed(serving: Serving, drivers: Drivers, row: Row, record_property: Record) -> None:
    await run_on_every_wire(
        serving, drivers, row, action=STRUCTURED, prompt=CITY_PROMPT, judge=judge_structured, record=record_property
    )


@rows(ERRORS)
async def test_a_refusal_raises_what_it_raises_before_the_provider_itself(
    serving: Serving, drivers: Drivers, row: Row, record_property: Record
) -> None:
    """A row with a reason shows no status of some refusal, and shows none before the provider either."""

    async def refused(url: str, action: str, status: int) -> Json | None:
        model = serving.refusing(row.surface, status)
        error: Json | None = (await drivers.request(row, action, url=url, model=model, prompt=PROMPT))["error"]
        return error

    cases = [(action, status) for action in (PLAIN, STREAM) for status in REFUSALS]
    ours = await asyncio.gather(*(refused(serving.url, *case) for case in cases))
    theirs = await asyncio.gather(*(refused(serving.provider_url, *case) for case in cases))
    shown = {case: (_seen(our), _seen(their)) for case, our, their in zip(cases, ours, theirs, strict=True)}
    assert {case: our for case, (our, _) in shown.items()} == {case: their for case, (_, their) in shown.items()}
    has_status = all(our is not None and our[1] == status for (_, status), (our, _) in shown.items())
    reason = row.reasons.get(ERRORS)
    assert has_status is (reason is None), shown
    if reason is not None:
        record_property("reason", reason)


def _seen(error: Json | None) -> tuple[str, int | None] | None:
    return None if error is None else (error["name"], error["status"])


@rows(STOP)
async def test_a_user_that_leaves_stops_the_answer_and_a_stop_ends_the_stream(
    serving: Serving, drivers: Drivers, row: Row
) -> None:
    await asyncio.gather(_leave(serving, drivers, row), _stop(serving, drivers, row))


async def _leave(serving: Serving, drivers: Drivers, row: Row) -> None:
    model = serving.model(row.surface)
    conversation = serving.conversation(model)
    job = {"url": serving.url, "model": model, "prompt": PROMPT, "abort_after": 1}
    call = asyncio.create_task(drivers.request(row, STREAM, **job))
    async with _given_up(call):
        await conversation.send_text("Left ")
        await conversation.send_text("behind")
        answer = await call
        assert answer["deltas"][0].startswith("Left "), answer
        request = await conversation.request()
        await request.wait_disconnected(ENDED_S)
    # The worker leaves the provider first, and then writes the end.
    assert await serving.end_of((await serving.generation(model)).id) == "aborted"


async def _stop(serving: Serving, drivers: Drivers, row: Row) -> None:
    model = serving.model(row.surface)
    conversation = serving.conversation(model)
    call = asyncio.create_task(drivers.request(row, STREAM, url=serving.url, model=model, prompt=PROMPT))
    async with _given_up(call):
        await conversation.send_text(PART)
        await serving.until_received(PART)
        await serving.native.stop((await serving.generation(model)).id)
        async with asyncio.timeout(ENDED_S):
            judge_left(PART, await call)


@rows(LOST)
async def test_a_killed_worker_is_an_error_or_a_whole_answer_and_never_doubles_text(
    serving: Serving, drivers: Drivers, row: Row, record_property: Record
) -> None:
    """A row with a reason shows no failure of the provider itself either."""
    if reason := row.reasons.get(LOST):
        model = serving.failing(row.surface)
        with pytest.raises(AssertionError):
            judge_lost(await drivers.request(row, STREAM, url=serving.provider_url, model=model, prompt=PROMPT))
        record_property("reason", reason)
        return
    serving.address.forget()
    model = serving.model(row.surface)
    conversation = serving.conversation(model)
    call = asyncio.create_task(drivers.request(row, STREAM, url=serving.url, model=model, prompt=PROMPT))
    async with _given_up(call):
        await conversation.send_text(PART)
        await serving.until_received(PART)
        await serving.replace_worker()
        judge_lost(await call)
