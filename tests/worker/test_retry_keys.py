"""Several keys of one provider: a failure concerns one key alone, and no key is ever published."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from broadcaster.core.providers.retrying import RetryBounds
from broadcaster.testing import Answer as Refuse
from broadcaster.testing import Hang, Script, ScriptedProvider, chat_wire, wire
from tests.worker.providers.provider_support import ANTHROPIC, CHAT, Wire, on_every_wire, text_of
from tests.worker.retry_support import GOOD, MODEL, QUICK, opened, signature

KEYS = {"KEY_A": "of-mine-a-0123", "KEY_B": "of-mine-b-0123", "KEY_C": "of-mine-c-0123"}


@pytest.fixture
def three_keys(monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    return tuple(KEYS)


def keys_seen(server: ScriptedProvider) -> list[str]:
    bearers = [request.headers["authorization"].removeprefix("Bearer ") for request in server.requests]
    return [name for bearer in bearers for name, value in KEYS.items() if value == bearer]


@on_every_wire
async def test_answers_are_spread_over_the_keys(on: Wire, three_keys: tuple[str, ...]):
    async with opened(on, 1, keys=three_keys) as world:
        world.servers[0].script(MODEL, Script(Hang()))
        running = [asyncio.create_task(world.run()) for _ in range(6)]
        await world.servers[0].wait_requests(6)
        assert sorted(keys_seen(world.servers[0])) == sorted([*KEYS, *KEYS])
        for task in running:
            task.cancel()
        await asyncio.wait(running)


@on_every_wire
@pytest.mark.parametrize("status", [401, 429])
async def test_trouble_with_a_key_is_trouble_with_that_key_alone(on: Wire, status: int, three_keys: tuple[str, ...]):
    async with opened(on, keys=three_keys) as world:
        refusal = Script(Refuse(status, headers={"retry-after": "600"}))
        world.servers[0].script(MODEL, refusal, refusal, GOOD)
        assert text_of(await world.run()) == "Hello world"
        assert keys_seen(world.servers[0]) == ["KEY_A", "KEY_B", "KEY_C"]
        await world.run()  # and the next answer knows
        assert keys_seen(world.servers[0])[3:] == ["KEY_C"]
        assert world.requested == [4, 0]


@on_every_wire
@pytest.mark.parametrize("status", [402, 403])
async def test_a_refusal_that_may_concern_one_request_alone_delays_no_other_one(on: Wire, status: int):
    async with opened(on) as world:
        world.servers[0].script("claude-a", Script(Refuse(status, body={"error": {"code": status, "message": "no"}})))
        assert text_of(await world.run(model="claude-a")) == "Hello world"
        world.given.clear()
        assert text_of(await world.run(model="claude-b")) == "Hello world"
        assert world.requested == [2, 1]


async def test_a_refusal_for_one_request_alone_is_tried_once_by_each_key(three_keys: tuple[str, ...]):
    async with opened(keys=three_keys) as world:
        world.servers[0].script(MODEL, Script(Refuse(403)))
        assert text_of(await world.run()) == "Hello world"
        assert keys_seen(world.servers[0]) == ["KEY_A", "KEY_B", "KEY_C"]
        assert world.requested == [3, 1]


@pytest.mark.parametrize(
    ("on", "body"),
    [
        (ANTHROPIC, wire.error("billing_error")),
        (CHAT, chat_wire.error("invalid_request_error", code="billing_not_active")),
    ],
    ids=["anthropic", "openai"],
)
async def test_a_key_whose_account_is_refused_rests_whatever_the_status(on: Wire, body: dict[str, Any]):
    async with opened(on) as world:
        world.servers[0].script(MODEL, Script(Refuse(403, body=body)))
        for _ in range(2):
            await world.run()
        assert world.requested == [1, 2]


async def test_when_every_key_rests_another_target_comes_first_as_long_as_there_is_one(
    three_keys: tuple[str, ...],
):
    async with opened(keys=three_keys) as world:
        world.servers[0].script(MODEL, Script(Refuse(429, headers={"retry-after": "600"})))
        first = await world.run(bounds=RetryBounds(retries=2, cap_s=20))
        assert world.requested == [3, 1]
        world.given.clear()
        second = await world.run()
        assert world.requested == [3, 2]
        assert [signature(each) for each in (first, second)] == [
            {"provider": "two", "model": MODEL, "tries": 4},
            {"provider": "two", "model": MODEL, "tries": 1},
        ]


async def test_keys_that_rest_for_no_time_are_not_tried_for_ever(three_keys: tuple[str, ...]):
    async with opened(keys=three_keys) as world:
        world.servers[0].script(MODEL, Script(Refuse(429, headers={"retry-after": "0"})))
        assert text_of(await world.run()) == "Hello world"
        assert world.requested == [1 + QUICK.retries + len(three_keys) - 1, 1]


async def test_a_provider_with_one_key_is_always_called_with_it():
    async with opened(count=1) as world:
        world.servers[0].script(MODEL, Script(Refuse(401)), GOOD)
        assert (await world.fail()).reason == "provider_auth"
        assert text_of(await world.run()) == "Hello world"


@on_every_wire
async def test_no_key_is_in_a_log_an_error_or_an_event(on: Wire, three_keys: tuple[str, ...]):
    async with opened(on, keys=three_keys) as world:
        message = f"bad key {KEYS['KEY_A']}"
        world.servers[0].script(MODEL, Script(Refuse(401, message=message)), Script(Refuse(429, message=message)))
        world.servers[1].script(MODEL, Script(Refuse(400, message=message)))
        with capture_logs() as logs:
            failure = await world.fail()
        assert [each["event"] for each in logs if each["event"].startswith("provider_")]
        for value in KEYS.values():
            assert value not in f"{logs} {failure} {failure.detail} {world.given}"


@on_every_wire
async def test_a_key_that_a_provider_quotes_reaches_no_viewer(on: Wire, three_keys: tuple[str, ...]):
    async with opened(on, 1, keys=three_keys) as world:
        world.servers[0].script(MODEL, GOOD, Script(Refuse(400, message=f"bad key {KEYS['KEY_B']} here")))
        await world.run()
        failure = await world.fail()
        assert keys_seen(world.servers[0]) == ["KEY_A", "KEY_B"]
        assert "bad key [redacted] here" in failure.detail
