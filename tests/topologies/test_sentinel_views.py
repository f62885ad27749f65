"""When a configuration counts that is older than the known one: the cases that take time, or count Sentinels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pytest

from broadcaster.log.redis.address import Address
from broadcaster.log.redis.topology.sentinel_views import GONE_S, KnownPrimary, NamedPrimary

BEFORE: Final = ("before", 6379)
KNOWN: Final = ("known", 6379)
OLDER: Final = NamedPrimary(1, BEFORE, sentinels=3)


class Believer:
    """A process that knows of a failover from ``BEFORE`` to ``KNOWN``, over a URL with three Sentinels."""

    def __init__(self, *, sentinels: int = 3) -> None:
        self.roles: dict[Address, bytes] = {BEFORE: b"master"}
        self.primary = KnownPrimary(sentinels=sentinels)
        self.primary.take(NamedPrimary(2, KNOWN, sentinels=3))

    async def goes_back(self, views: Sequence[NamedPrimary], *, now: float = 0.0) -> bool:
        async def role_of(address: Address) -> bytes | None:
            return self.roles.get(address)

        return await self.primary.older(views, role_of=role_of, now=now) is not None


async def test_a_primary_that_is_silent_for_long_is_left_for_the_one_that_most_sentinels_name() -> None:
    believer = Believer()
    went_back = [await believer.goes_back([OLDER] * 2, now=1.0 + after_s) for after_s in (0.0, GONE_S - 1, GONE_S)]
    assert went_back == [False, False, True]


async def test_a_minority_has_no_primary_left_however_long_it_is_silent() -> None:
    believer = Believer()
    assert [await believer.goes_back([OLDER], now=now) for now in (0.0, 2 * GONE_S)] == [False, False]


async def test_one_reply_of_the_known_primary_restarts_the_time() -> None:
    believer = Believer()
    await believer.goes_back([OLDER] * 2, now=0.0)
    believer.roles[KNOWN] = b"master"
    await believer.goes_back([OLDER] * 2, now=GONE_S - 1)
    del believer.roles[KNOWN]
    assert not await believer.goes_back([OLDER] * 2, now=GONE_S + 1)
    assert await believer.goes_back([OLDER] * 2, now=2 * GONE_S + 1)


async def test_a_newer_view_restarts_the_time() -> None:
    believer = Believer()
    await believer.goes_back([OLDER] * 2, now=0.0)
    believer.primary.take(NamedPrimary(2, KNOWN, sentinels=3))
    assert not await believer.goes_back([OLDER] * 2, now=GONE_S)


@pytest.mark.parametrize("role", [b"slave", None])
async def test_only_a_server_that_reports_to_be_the_primary_is_gone_back_to(role: bytes | None) -> None:
    believer = Believer()
    believer.roles = {KNOWN: b"slave"} if role is None else {KNOWN: b"slave", BEFORE: role}
    assert not await believer.goes_back([OLDER] * 3)


async def test_one_sentinel_behind_an_address_of_several_does_not_count_for_all() -> None:
    believer = Believer(sentinels=1)
    believer.roles[KNOWN] = b"master"
    assert not await believer.goes_back([OLDER])
    assert await believer.goes_back([NamedPrimary(1, BEFORE, sentinels=1)])


def test_the_number_of_sentinels_is_read() -> None:
    flat = [b"ip", b"h", b"port", b"1", b"config-epoch", b"7", b"num-other-sentinels", b"2"]
    assert NamedPrimary.read(flat) == NamedPrimary(7, ("h", 1), sentinels=3)
