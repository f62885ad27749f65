"""Every client, shown a recorded generation from every entry on: it ends with the object of the uninterrupted one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio

from tests.compat.clients import CLIENTS, RESPONSES_JS, RESPONSES_PY, Client, Opened, Show
from tests.compat.fixtures import STOPPED, TOOL_LOOP, TWO_ATTEMPTS, WHOLE, WORKER_LOST, Fixture
from tests.compat.matrix import LOST, OPENED, STOP, THINKING, TOOLS, clients
from tests.compat.readings import Shown, of_entries
from tests.compat.serving import FixtureServer
from tests.compat.tellings import shows_a_stop, shows_an_error

# `make test` leaves these to `make compat`: the laws in tests/dialects hold every dialect at every entry.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.thorough]

Record = Callable[[str, object], None]
AT_ONCE = 16


@dataclass(frozen=True)
class Seat:
    """A client before the fixture server."""

    server: FixtureServer
    client: Client
    show: Show

    async def read(self, fixture: Fixture, k: int = 0, **options: Any) -> Shown:
        """What it makes of the fixture, opened after ``k`` entries."""
        return await self.show(
            self.server.opened(self.client.label, fixture, k), stream_id=fixture.stream_id, **options
        )


@pytest_asyncio.fixture(loop_scope="module")
async def seat(server: FixtureServer, opened: Opened, client: Client) -> Seat:
    return Seat(server, client, await opened.show(client))


_shown: dict[tuple[str, str], list[Shown]] = {}
"""What was read once in this run: several cells look at the same streams."""


async def shown_at(seat: Seat, fixture: Fixture, ks: range) -> list[Shown]:
    """What the client makes of the fixture, opened after each of these numbers of entries."""
    key = (seat.client.name, fixture.name)
    if key not in _shown:
        _shown[key] = await read_at(seat, fixture, ks)
    return _shown[key]


async def read_at(seat: Seat, fixture: Fixture, ks: range) -> list[Shown]:
    """The same, read now."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def one(k: int) -> Shown:
        async with limit:
            return await seat.read(fixture, k)

    return list(await asyncio.gather(*map(one, ks)))


def opened_after(client: Client, fixture: Fixture) -> range:
    """After nothing, after every entry but the last. Native clients resume themselves: they need one to begin with."""
    return range(1 if client.dialect == "native" else 0, len(fixture.entries))


def without_ids(final: Any) -> Any:
    """Ids are never used twice: those of a second attempt are not those that it would have had as the first."""
    if isinstance(final, dict):
        return {name: without_ids(value) for name, value in final.items() if name not in ("id", "messageId")}
    return [without_ids(each) for each in final] if isinstance(final, list) else final


@clients(OPENED, *CLIENTS)
@pytest.mark.parametrize("fixture", [each for each in WHOLE if each is not TWO_ATTEMPTS], ids=str)
async def test_the_final_object_is_that_of_the_uninterrupted_one_wherever_it_is_opened(
    seat: Seat, client: Client, fixture: Fixture, record_property: Record
) -> None:
    ks = opened_after(client, fixture)
    whole, *others = await shown_at(seat, fixture, ks)
    assert whole.error is None
    assert client.read(whole.final).text == of_entries(fixture.entries).text
    assert whole.received is None or whole.received["faults"] == []
    for k, shown in zip(ks[1:], others, strict=True):
        assert shown.error is None, f"opened after {k}"
        assert shown.final == whole.final, f"opened after {k}: {fixture.entries[k - 1].event!r}"
        assert shown.received == whole.received, f"opened after {k}: {fixture.entries[k - 1].event!r}"
    record_property("points", len(ks))


@clients(OPENED, *CLIENTS)
async def test_a_second_attempt_leaves_nothing_of_the_first_and_doubles_nothing(
    seat: Seat, client: Client, record_property: Record
) -> None:
    fixture = TWO_ATTEMPTS
    ks = opened_after(client, fixture)
    all_shown = await shown_at(seat, fixture, ks)
    alone, latest = all_shown[-1], of_entries(fixture.entries)
    assert alone.error is None
    assert client.read(alone.final) == latest
    for k, shown in zip(ks, all_shown, strict=True):
        if k >= fixture.last_attempt_at or client.can_retract:
            assert shown.error is None, f"opened after {k}"
            assert without_ids(shown.final) == without_ids(alone.final), f"opened after {k}"
        elif shown.error is None:
            assert client.read(shown.final) == latest, f"opened after {k}"
        elif shown.final is not None:
            assert client.read(shown.final).text in "A first answer", f"opened after {k}"
    record_property("points", len(ks))


@clients(OPENED, RESPONSES_PY, RESPONSES_JS)
@pytest.mark.parametrize("fixture", WHOLE, ids=str)
async def test_responses_go_on_after_every_number(
    seat: Seat, client: Client, fixture: Fixture, record_property: Record
) -> None:
    whole = await seat.read(fixture)
    numbers = [int(seen.split()[0]) for seen in whole.seen]
    assert numbers == sorted(set(numbers))
    limit = asyncio.Semaphore(AT_ONCE)

    async def after(number: int) -> Shown:
        async with limit:
            return await seat.read(fixture, starting_after=number)

    resumed = await asyncio.gather(*map(after, numbers[:-1]))
    for at, shown in enumerate(resumed):
        assert shown.error is None, f"after {numbers[at]}"
        assert shown.final == whole.final, f"after {numbers[at]}"
        assert shown.seen == whole.seen[at + 1 :], f"after {numbers[at]}"
    record_property("points", len(numbers))


@clients(TOOLS, *CLIENTS)
async def test_a_tool_call_comes_with_its_arguments(seat: Seat, client: Client) -> None:
    ks = opened_after(client, TOOL_LOOP)
    for shown in await shown_at(seat, TOOL_LOOP, ks):
        assert client.read(shown.final).calls == (("get_weather", {"city": "Paris"}),)


@clients(THINKING, *CLIENTS)
async def test_thinking_is_shown_as_thinking(seat: Seat, client: Client) -> None:
    ks = opened_after(client, TOOL_LOOP)
    for shown in await shown_at(seat, TOOL_LOOP, ks):
        assert client.read(shown.final).thinking == "They ask for the weather."


@clients(LOST, *CLIENTS)
async def test_a_lost_worker_is_an_error_wherever_it_is_opened(
    seat: Seat, client: Client, record_property: Record
) -> None:
    ks = opened_after(client, WORKER_LOST)
    for k, shown in zip(ks, await shown_at(seat, WORKER_LOST, ks), strict=True):
        assert shows_an_error(client, shown), f"opened after {k}: {shown}"
        if shown.final is not None:
            assert client.read(shown.final).text in of_entries(WORKER_LOST.entries).text
    record_property("points", len(ks))


@clients(STOP, *CLIENTS)
async def test_a_stop_is_reported_as_a_stop_wherever_it_is_opened(
    seat: Seat, client: Client, record_property: Record
) -> None:
    ks = opened_after(client, STOPPED)
    whole, *others = await shown_at(seat, STOPPED, ks)
    assert shows_a_stop(client, whole), whole
    for k, shown in zip(ks[1:], others, strict=True):
        assert (shown.final, shown.error) == (whole.final, whole.error), f"opened after {k}"
    record_property("points", len(ks))
