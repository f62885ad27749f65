"""Places that end: viewers are stopped, and requests that are still on their way never watch."""

from __future__ import annotations

import pytest

from broadcaster.core.access.callers import Caller
from broadcaster.errors import Unauthorized
from broadcaster.hub.hub import Hub
from broadcaster.hub.places import Place, Visitor
from broadcaster.hub.stop_reasons import StopReason
from broadcaster.hub.viewer import Viewer
from tests.support.memory.fake_tail import FakeTail

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
