"""Places that end: viewers are stopped, and requests that are still on their way never watch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from broadcaster.core.access.callers import Caller
from broadcaster.dialects import DIALECTS
from broadcaster.errors import TenantLimit, Unauthorized
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.places import Place, Visitor
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.support.memory.fake_tail import FakeTail

DEADLINE_S = 20.0
REVOKED, KEPT = Visitor(Caller("web", credential="key:1")), Visitor(Caller("web", credential="key:2"))


def is_revoked(place: Place) -> bool:
    return place.visitor is REVOKED


async def joined(hub: Hub, visitor: Visitor) -> Viewer:
    with hub.reserve("web", visitor=visitor) as place:
        viewer = await hub.join("g", cursor=None, timeout_s=1, place=place)
    assert isinstance(viewer, Viewer)
    return viewer


async def test_viewers_in_ended_places_are_closed_for_good_and_others_stay(hub: Hub, tail: FakeTail) -> None:
    ended, kept = await joined(hub, REVOKED), await joined(hub, KEPT)
    hub.stop_where(is_revoked, StopReason.REVOKED)
    assert (ended.stop_reason, kept.stop_reason) == (StopReason.REVOKED, None)
    assert b'{"reason":"revoked","reconnect":false}' in ended.pull(2**16)
    assert ended.ends_cleanly


async def test_a_request_on_its_way_when_its_place_ends_never_watches(hub: Hub, tail: FakeTail) -> None:
    with hub.reserve("web", visitor=REVOKED) as place:
        hub.stop_where(is_revoked, StopReason.REVOKED)
        with pytest.raises(Unauthorized, match="revoked"):
            await hub.join("g", cursor=None, timeout_s=1, place=place)
    assert hub.viewers() == {}


async def test_a_request_whose_viewer_left_has_an_ended_place_too(hub: Hub, tail: FakeTail) -> None:
    with hub.reserve("web", visitor=REVOKED) as place:
        viewer = await hub.join("g", cursor=None, timeout_s=1, place=place)
        assert isinstance(viewer, Viewer)
        viewer.leave()
        hub.stop_where(is_revoked, StopReason.REVOKED)
        with pytest.raises(Unauthorized):
            await hub.join("g", cursor=None, timeout_s=1, place=place)
    # An ended place is not remembered once it is free.
    assert isinstance(await joined(hub, REVOKED), Viewer)


def remote(credential: str = "", address: str = "") -> Visitor:
    return Visitor(Caller("web", credential=credential) if credential else None, address, is_remote=True)


@pytest.mark.parametrize(
    ("limits", "held", "refused", "admitted", "setting"),
    [
        (
            HubLimits(credential_viewers=2),
            remote("key:1", "a"),
            remote("key:1", "b"),
            (remote("key:2", "a"), remote("", "a")),
            "CREDENTIAL_VIEWERS",
        ),
        (
            HubLimits(address_viewers=2),
            remote("key:1", "a"),
            remote("key:2", "a"),
            (remote("key:1", "b"), remote("key:1"), remote()),
            "ADDRESS_VIEWERS",
        ),
    ],
)
async def test_a_credential_and_an_address_have_their_shares_and_get_them_back(
    open_hub: Callable[..., Hub],
    limits: HubLimits,
    held: Visitor,
    refused: Visitor,
    admitted: Sequence[Visitor],
    setting: str,
) -> None:
    hub = open_hub(limits)
    with hub.reserve("web", visitor=held), hub.reserve("web", visitor=held, waits=True):
        with pytest.raises(TenantLimit, match=setting):
            hub.reserve("web", visitor=refused)
        for _ in range(3):
            for visitor in admitted:
                with hub.reserve("web", visitor=visitor):
                    pass
    with hub.reserve("web", visitor=refused):
        pass


async def until_stopped(viewer: Viewer) -> StopReason | None:
    async with asyncio.timeout(DEADLINE_S):
        while viewer.stop_reason is None:
            viewer.pull(2**16)
            await viewer.wait(0.02)
    return viewer.stop_reason


SHORT = HubLimits(lifetime_s=0.3, heartbeat_s=0.4, retry_ms=100)


async def test_a_connection_that_has_lived_long_enough_is_closed_to_be_resumed(
    open_hub: Callable[..., Hub], tail: FakeTail
) -> None:
    hub = open_hub(SHORT)
    begun = asyncio.get_running_loop().time()
    viewer = await joined(hub, remote())
    assert await until_stopped(viewer) is StopReason.LIFETIME
    assert asyncio.get_running_loop().time() - begun >= 0.2
    assert b'{"reason":"lifetime","reconnect":true}' in viewer.pull(2**16)
    assert viewer.ends_cleanly


async def test_what_cannot_resume_or_has_no_connection_is_never_closed_for_its_age(
    open_hub: Callable[..., Hub], tail: FakeTail
) -> None:
    hub = open_hub(SHORT)
    old = await joined(hub, remote())
    with hub.reserve("web", visitor=remote()) as place, hub.reserve("web", visitor=remote(), waits=True) as waits:
        others = [
            await hub.join("g", cursor=None, timeout_s=1, place=place, dialect=DIALECTS["openai-chat"]),
            await hub.join("g", cursor=None, timeout_s=1, place=waits),
            await joined(hub, Visitor()),
        ]
    await until_stopped(old)
    later = await joined(hub, remote())
    await until_stopped(later)
    assert [viewer.stop_reason for viewer in others if isinstance(viewer, Viewer)] == [None] * 3
