"""Redis refuses the user for a while: its password was changed, and its connections were ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from broadcaster import Broadcaster
from broadcaster.errors import SetupError
from tests.library.test_publications import HeldSource
from tests.support.log.log_world import until
from tests.support.log.refusable_user import RefusableUser
from tests.support.log.valkey import start_valkey

pytestmark = pytest.mark.second_engine


@pytest.fixture
def user(tmp_path: Path) -> Iterator[RefusableUser]:
    with start_valkey(tmp_path, port=0) as running:
        found = RefusableUser(running.url)
        found.admit()
        yield found


@pytest.fixture
async def broadcaster(user: RefusableUser) -> AsyncIterator[Broadcaster]:
    async with Broadcaster.from_url(user.url, drain_s=0) as opened:
        yield opened


async def test_a_stop_cancels_its_source_after_a_time_in_which_redis_refused_us(
    broadcaster: Broadcaster, user: RefusableUser
) -> None:
    source = HeldSource("a")
    await broadcaster.publish_nowait(source, id="answer").created()
    with capture_logs() as lines:
        user.refuse()
        await until(lambda: "publications_not_watched" in [line["event"] for line in lines])
        user.admit()
        async with Broadcaster.from_url(user.server_url) as other:
            await other.stop("answer")
        await until(lambda: source.is_closed)


async def test_a_refusal_in_the_midst_of_an_answer_is_raised_with_its_remedy(
    broadcaster: Broadcaster, user: RefusableUser
) -> None:
    async def tokens() -> AsyncIterator[str]:
        yield "a"
        user.refuse()
        while True:
            yield "b"
            await asyncio.sleep(0)

    with pytest.raises(SetupError, match=r"Redis refuses us: .*; correct the user and password"):
        await broadcaster.publish(tokens(), id="answer")


async def _write(broadcaster: Broadcaster) -> None:
    async with broadcaster.feed("job"):
        pass


@pytest.mark.parametrize(
    "call",
    [
        _write,
        lambda broadcaster: broadcaster.start("Why?"),
        lambda broadcaster: broadcaster.get("gen_1"),
        lambda broadcaster: broadcaster.read("job"),
        lambda broadcaster: broadcaster.stop("gen_1"),
        lambda broadcaster: broadcaster.stop("job"),
        lambda broadcaster: anext(broadcaster.events("job")),
    ],
    ids=["feed", "start", "get", "read", "stop of a generation", "stop", "events"],
)
async def test_every_call_raises_setup_error_while_redis_refuses_the_user(
    broadcaster: Broadcaster, user: RefusableUser, call: Callable[[Broadcaster], Awaitable[object]]
) -> None:
    user.refuse()
    with pytest.raises(SetupError, match="refuses us"):
        await call(broadcaster)
