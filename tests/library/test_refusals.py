"""Redis refuses the user for a while: its password was changed, and its connections were ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis import Redis
from structlog.testing import capture_logs

from broadcaster import Broadcaster
from tests.library.test_publications import HeldSource
from tests.support.log.log_world import until
from tests.support.log.valkey import start_valkey

pytestmark = pytest.mark.second_engine


@dataclass(frozen=True)
class User:
    """A user of the server at ``server_url``, whose password is "one" until it is refused."""

    server_url: str

    @property
    def url(self) -> str:
        return self.server_url.replace("redis://", "redis://app:one@")

    def refuse(self) -> None:
        """From now on its password is another one."""
        self._set("resetpass", ">two")
        self._execute("CLIENT", "KILL", "USER", "app")

    def admit(self) -> None:
        """Its password is right again."""
        self._set("resetpass", ">one")

    def _set(self, *rules: str) -> None:
        self._execute("ACL", "SETUSER", "app", "on", "~*", "&*", "+@all", *rules)

    def _execute(self, *command: str) -> None:
        with Redis.from_url(self.server_url, driver_info=None) as redis:
            redis.execute_command(*command)


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    with start_valkey(tmp_path, port=0) as running:
        found = User(running.url)
        found.admit()
        yield found


@pytest.fixture
async def broadcaster(user: User) -> AsyncIterator[Broadcaster]:
    async with Broadcaster.from_url(user.url, drain_s=0) as opened:
        yield opened


async def test_a_stop_cancels_its_source_after_a_time_in_which_redis_refused_us(
    broadcaster: Broadcaster, user: User
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
