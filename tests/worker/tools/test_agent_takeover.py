"""The agent loop after its worker was lost: finished work is not repeated, and an unknown outcome is reported."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from broadcaster.core import events as ev
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Cut, Hang, Script, wire
from tests.support.log.log_world import until
from tests.worker.providers.provider_support import ANTHROPIC, Wire, on_every_wire
from tests.worker.tools.agent_support import DONE, OSLO, PARIS, AgentWorld, agent_world, calls, outputs
from worker.attempt import AttemptEnd
from worker.tools import ToolContext

IN = wire.DEFAULT_INPUT_TOKENS


class Weather:
    """The tool, in the test's hands: every call is counted by its key; a blocked city waits for ever."""

    def __init__(self, given: AgentWorld, *, repeatable: bool) -> None:
        self.made: list[str] = []
        self.blocked: set[str] = set()

        @given.box.tool(repeatable=repeatable)
        async def weather(city: str, context: ToolContext) -> str:
            """The weather in a city."""
            self.made.append(context.idempotency_key.partition(":")[2])
            await context.progress({"message": f"asking {city}"})
            if city in self.blocked:
                await asyncio.Event().wait()
            return f"{city} is sunny"

    async def until_made(self, count: int) -> None:
        await until(lambda: len(self.made) >= count)


@on_every_wire
async def test_a_step_that_is_over_is_repeated_without_a_provider_call_or_a_tool_run(
    connection: LogConnection, on: Wire
) -> None:
    async with agent_world(connection, on=on) as given:
        weather = Weather(given, repeatable=False)
        given.script(calls(on, PARIS, text="Let me look."), Script(Hang()), DONE)
        first = await given.begin()
        await given.requests(2)
        await given.lose(first)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        assert weather.made == ["1:0"]
        state = await given.state()
        assert (state.attempt, state.text) == (2, "Let me look.It is sunny.")
        assert [part["output"] for part in state.parts if part["type"] == "tool"] == ["Paris is sunny"]
        first_request, *later = (request.body for request in await given.requests(3))
        assert later[0] == later[1]
        assert "Paris is sunny" in str(later[1])
        assert "Paris is sunny" not in str(first_request)


async def test_a_recorded_output_is_used_and_only_the_rest_of_the_step_is_run(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        weather = Weather(given, repeatable=True)
        weather.blocked = {"Oslo"}
        given.script(calls(ANTHROPIC, PARIS, OSLO), DONE)
        first = await given.begin()
        await given.until_logged(ev.ToolOutputAvailable)
        await given.lose(first)
        weather.blocked = set()
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        assert sorted(weather.made) == ["1:0", "1:1", "1:1"]
        state = await given.state()
        parts = [part["output"] for part in state.parts if part["type"] == "tool"]
        assert parts == ["Paris is sunny", "Oslo is sunny"]
        assert len(given.server.requests) == 2


async def test_a_call_that_was_begun_and_may_not_be_repeated_ends_the_generation(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        weather = Weather(given, repeatable=False)
        weather.blocked = {"Oslo"}
        given.script(calls(ANTHROPIC, PARIS, OSLO, text="Let me look."), DONE)
        first = await given.begin()
        await given.until_logged(ev.ToolOutputAvailable)
        await given.lose(first)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        assert sorted(weather.made) == ["1:0", "1:1"]
        *_, end = await given.events()
        assert isinstance(end, ev.Error)
        assert end.code == "tool_outcome_unknown"
        assert "weather" in end.error_text
        state = await given.state()
        assert state.text == "Let me look."
        assert state.usage is not None
        assert len(given.server.requests) == 1


async def test_a_step_of_which_no_call_was_begun_is_requested_once_more(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        weather = Weather(given, repeatable=False)
        conversation = given.conversation()
        first = await given.begin()
        await conversation.send_text("half an ans")
        await given.until_logged(ev.TextDelta)
        await given.lose(first)
        given.script(calls(ANTHROPIC, PARIS), DONE)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        assert weather.made == ["1:0"]
        assert (await given.state()).text == "It is sunny."


async def test_the_attempt_that_came_furthest_is_gone_on_with(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        weather = Weather(given, repeatable=True)
        given.script(calls(ANTHROPIC, PARIS), calls(ANTHROPIC, OSLO), DONE)
        weather.blocked = {"Oslo"}
        for attempt in (1, 2):
            lost = await given.begin()
            await weather.until_made(1 + attempt)
            await given.lose(lost)
        weather.blocked = set()
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        assert weather.made == ["1:0", "2:0", "2:0", "2:0"]
        assert len(given.server.requests) == 3
        assert (await given.state()).attempt == 3


async def test_a_generation_that_lacked_only_its_end_gets_it(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        Weather(given, repeatable=False)
        written: list[ev.Event] = [
            *(ev.Start(message_id="m1"), ev.StartStep(), ev.TextStart(id="0"), ev.TextDelta(id="0", delta="sunny")),
            *(ev.TextEnd(id="0"), ev.Usage(output_tokens=3), ev.FinishStep(finish_reason="stop")),
        ]
        await given.record(written)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        events = await given.events()
        assert events[len(written) + 1 :] == [*written, ev.Finish(finish_reason="stop")]
        assert given.server.requests == []


async def test_a_broken_later_step_is_requested_once_more_without_running_the_tools_of_earlier_ones(
    connection: LogConnection,
) -> None:
    async with agent_world(connection) as given:
        weather = Weather(given, repeatable=False)
        given.policy = {"on_provider_loss": "retry"}
        given.script(calls(ANTHROPIC, PARIS), Script(ANTHROPIC.half(), Cut()), DONE)
        first = await given.begin()
        assert await first.over() is AttemptEnd.RETRY
        first.attempt.writer.lose()
        await given.world.lapse(given.stream_id)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        assert weather.made == ["1:0"]
        assert (await given.state()).text == "It is sunny."


async def test_the_counts_continue_from_those_of_the_repeated_steps(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        Weather(given, repeatable=False)
        given.script(calls(ANTHROPIC, PARIS), Script(Hang()), DONE)
        first = await given.begin()
        await given.requests(2)
        await given.lose(first)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        state = await given.state()
        assert state.usage is not None
        assert state.usage["inputTokens"] == 2 * wire.DEFAULT_INPUT_TOKENS


@pytest.mark.parametrize("end", [AttemptEnd.RETRY, AttemptEnd.HANDED_BACK, AttemptEnd.LOST])
async def test_the_attempts_together_have_spent_what_the_provider_was_requested(
    connection: LogConnection, end: AttemptEnd
) -> None:
    async with agent_world(connection) as given:
        Weather(given, repeatable=False)
        given.policy = {"on_provider_loss": "retry"}
        given.script(
            calls(ANTHROPIC, PARIS), Script(ANTHROPIC.half(), Cut() if end is AttemptEnd.RETRY else Hang()), DONE
        )
        first = await given.begin()
        if end is not AttemptEnd.RETRY:
            await given.until_logged(ev.TextDelta, 2)
            first.attempt.writer.lose() if end is AttemptEnd.LOST else first.attempt.hand_back()
        assert await first.over() is end
        first.attempt.writer.lose()
        await given.world.lapse(given.stream_id)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        with capture_logs() as logs:
            last.attempt.report(AttemptEnd.OVER)
        spent = [running.attempt.usage for running in (first, last)]
        assert [usage and usage.input_tokens for usage in spent] == [2 * IN, IN]
        assert [line["input_tokens"] for line in logs if line["event"] == "attempt_ended"] == [IN]
        usage = (await given.state()).usage
        assert usage is not None
        assert usage["inputTokens"] == 2 * IN  # of the answer: the repeated step and the last one


async def test_an_attempt_that_only_repeats_has_spent_nothing(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        written: list[ev.Event] = [
            *(ev.Start(message_id="m1"), ev.StartStep(), ev.TextStart(id="0"), ev.TextDelta(id="0", delta="sunny")),
            *(ev.TextEnd(id="0"), ev.Usage(output_tokens=3), ev.FinishStep(finish_reason="stop")),
        ]
        await given.record(written)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        assert last.attempt.usage is None


async def test_deltas_are_repeated_as_one(connection: LogConnection) -> None:
    async with agent_world(connection) as given:
        weather = Weather(given, repeatable=True)
        weather.blocked = {"Paris"}
        conversation = given.conversation()
        first = await given.begin()
        for piece in ("one ", "two ", "three"):
            await conversation.send_text(piece)
        await conversation.send_tool("weather", '{"city":', '"Paris"}')
        await conversation.finish()
        await weather.until_made(1)
        await given.lose(first)
        weather.blocked = set()
        given.script(DONE)
        last = await given.begin()
        assert await last.over() is AttemptEnd.OVER
        events = await given.events()
        (border,) = (at for at, each in enumerate(events) if isinstance(each, ev.Attempt))
        repeated = [each.delta for each in events[border:] if isinstance(each, ev.TextDelta)]
        assert repeated[0] == "one two three"
        assert len(outputs(events)) == 1
