"""The judge of leases, deletions and take-overs notices an end that comes too early, too late, or never."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.hunt.clients.feeds import event_of
from tests.hunt.clients.folds import Ending
from tests.hunt.clients.leases import DELETES, DIES, RETURNS, WRITER, Contact, LeasedFeed
from tests.hunt.clients.viewer import Viewer
from tests.hunt.draw import Order
from tests.hunt.judging.answers import Answer, Log
from tests.hunt.judging.leases import Circumstances, judge_deleted, judge_leased, judge_viewer_of_deleted
from tests.hunt.judging.takeovers import CLOSED, late_takeovers
from tests.hunt.system.lag import Lag
from tests.hunt.system.provider import TEXT_STEP, Call, Plan, token
from tests.hunt.world import Window

LOST = {"type": "error", "code": "writer_lost"}
FINISH = {"type": "finish"}


def _log(*events: Any) -> Log:
    return [(f"7-{at}", json.dumps(event).encode()) for at, event in enumerate([event_of(WRITER, 0), *events], 1)]


def _feed(fate: str, *sent: float, is_closed: bool = False) -> LeasedFeed:
    contacts = [Contact(at, at + 0.1) for at in sent]
    return LeasedFeed("f", 2.0, fate, 0.0, contacts, {0: contacts[0]}, is_closed=is_closed)


def _viewer(ended_at: float, *ending: str, text: str = "") -> Viewer:
    viewer = Viewer("viewer", "f", "native", ["http://x"], random.Random(0), lambda: True)
    viewer.ended_at, viewer.fold.ending, viewer.fold.text = ended_at, Ending(*ending), text
    return viewer


@pytest.mark.parametrize(
    ("feed", "log", "is_right"),
    [
        (_feed(DIES, 0, 1), _log(LOST), True),
        (_feed(DIES, 0, 1), _log(FINISH), False),
        (_feed(DIES, 0, 1), _log(), False),
        (_feed(RETURNS, 0, 1, is_closed=True), _log(FINISH), True),
        (_feed(RETURNS, 0, 1, is_closed=True), _log(LOST), False),
        (_feed(RETURNS, 0, 5, is_closed=True), _log(LOST), False),
        (_feed(RETURNS, 0, 1), _log(LOST), False),
        (_feed(RETURNS, 0, 5), _log(LOST), True),
        (_feed(RETURNS, 0, 1), _log(event_of(WRITER, 0), LOST), False),
    ],
)
def test_a_feed_with_a_lease_ends_as_lost_only_when_its_writer_was_silent(
    feed: LeasedFeed, log: Log, is_right: bool
) -> None:
    assert (not list(judge_leased(feed, log, [], Circumstances()))) == is_right


@pytest.mark.parametrize(("ended_at", "is_right"), [(2.5, False), (3.5, True), (9.0, False)])
def test_the_end_of_a_feed_whose_writer_died_comes_after_its_lease_and_soon(ended_at: float, is_right: bool) -> None:
    viewers = [_viewer(ended_at, "error", "writer_lost")]
    found = list(judge_leased(_feed(DIES, 0, 1), _log(LOST), viewers, Circumstances(is_calm=True)))
    assert (not found) == is_right


def test_a_feed_that_was_deleted_holds_and_takes_nothing() -> None:
    feed = _feed(DELETES, 0, 1)
    feed.deletion_sent, feed.deleted = 1.5, Contact(1.5, 2.0)
    assert not list(judge_leased(feed, [], [], Circumstances()))
    assert list(judge_leased(feed, _log(LOST), [], Circumstances()))
    feed.acked[9] = Contact(2.5, 2.6)
    assert list(judge_leased(feed, [], [], Circumstances()))


def _answer() -> Answer:
    return Answer(
        "a", Order("generations", "claude", Plan(4, 0.0), {}, has_webhook=False), id="gen_1", stop_requested=True
    )


def test_an_answer_that_was_deleted_stays_so() -> None:
    assert not list(judge_deleted(_answer(), [], ["404", "404"]))
    assert list(judge_deleted(_answer(), _log(), ["404"]))
    assert list(judge_deleted(_answer(), [], ["404", "finished"]))


def test_a_viewer_of_what_was_deleted_has_an_end_and_shows_what_the_provider_gave() -> None:
    call = Call("a", 1, TEXT_STEP, 2, 0.0, outcome="whole")
    half, whole = token(call, 0, 0), token(call, 0, 0) + token(call, 1, 0)
    right = [
        _viewer(1, "abort", "stopped", text=half),
        _viewer(1, "finish", text=whole),
        _viewer(1, "error", "unknown_stream"),
    ]
    wrong = [_viewer(1, "finish", text=half), _viewer(1, "abort", "stopped", text=half * 2), _viewer(1, "error", "x")]
    for viewer in right:
        assert not list(judge_viewer_of_deleted(viewer, _answer(), [call], stalled=False))
    for viewer in wrong:
        assert list(judge_viewer_of_deleted(viewer, _answer(), [call], stalled=False))
    wrong[0].fold.declared.append("trimmed")
    assert not list(judge_viewer_of_deleted(wrong[0], _answer(), [call], stalled=False))
    right[0].ended_at = None
    assert list(judge_viewer_of_deleted(right[0], _answer(), [call], stalled=False))


def _calls(restarted: float) -> dict[str, list[Call]]:
    first = Call("a", 1, TEXT_STEP, 4, 0.0, outcome=CLOSED, ended=10.1)
    return {"a": [first, Call("a", 2, TEXT_STEP, 4, restarted, outcome="whole")]}


def _late(restarted: float, *windows: Window, lag: Lag | None = None, has_room: bool = True) -> list[bool]:
    """Of each late take-over, whether something excuses it."""
    death = Window("SIGKILL worker-0", 9.9, 12.0)
    found = late_takeovers([10.0], _calls(restarted), [death, *windows], lag or Lag(), lease_s=1.0, has_room=has_room)
    return [bool(each.causes) for each in found]


def test_a_late_take_over_is_a_violation_unless_something_else_was_wrong() -> None:
    assert _late(13.9) == []
    assert _late(14.1) == [False]
    assert _late(14.1, Window("SIGKILL front-end-0", 9.0, 12.0), Window("SIGSTOP worker-1", 1.0, 8.9)) == [False]
    assert _late(14.1, Window("SIGSTOP worker-1", 13.0, 15.0)) == [True]
    assert _late(14.1, Window("clock -9 s", 9.5, 9.5)) == [True]
    assert _late(14.1, has_room=False) == [True]
    assert _late(14.1, lag=Lag(turns=[(11.0, 0.3)])) == [True]
    assert _late(14.1, lag=Lag(turns=[(11.0, 0.1), (20.0, 0.9)])) == [False]
