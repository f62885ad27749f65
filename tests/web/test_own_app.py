"""The app that tests share: a later test is given it again, two front-ends of one test are not."""

from __future__ import annotations

import pytest

from broadcaster.settings import Settings
from tests.support.memory.memory_world import MemoryWorld, memory_services
from tests.support.servers.front_end import in_process, own_app


@pytest.fixture(autouse=True)
def _an_earlier_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "an earlier test (call)")


async def test_two_front_ends_of_one_test_are_two_apps_also_when_the_first_has_ended() -> None:
    settings = Settings(max_events=4711)  # those of no other test
    async with memory_services(MemoryWorld()) as one:
        first = own_app(one, settings)
        assert own_app(one, settings) is first
        async with memory_services(MemoryWorld()) as two:
            assert own_app(two, settings) is not first
    async with memory_services(MemoryWorld()) as three:
        assert own_app(three, settings) is not first


async def test_a_later_test_is_given_an_app_whose_front_end_has_ended_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(max_events=4712)  # those of no other test
    async with memory_services(MemoryWorld()) as running, memory_services(MemoryWorld()) as later:
        async with memory_services(MemoryWorld()) as ended:
            used, free = own_app(running, settings), own_app(ended, settings)
        monkeypatch.setenv("PYTEST_CURRENT_TEST", "a later test (call)")
        assert own_app(later, settings) is free
        later.draining.set()
        for app, status in ((free, 503), (used, 200)):
            async with in_process(app) as client:
                assert (await client.get("/readyz")).status_code == status
