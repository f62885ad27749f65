"""The judge of hunts notices each kind of lie: a text that is doubled, torn or foreign, an end that has no cause."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from typing import Any

import pytest

from tests.hunt.clients.feeds import EVENT, HuntedFeed, Written
from tests.hunt.clients.folds import Ending, NativeFold, Next, Wrong
from tests.hunt.clients.sdk_folds import FOLDS
from tests.hunt.clients.viewer import Viewer
from tests.hunt.draw import Order
from tests.hunt.judging.answers import (
    Answer,
    Judged,
    faults_of_text,
    judge_calls,
    judge_ending,
    judge_log,
    judge_viewer,
)
from tests.hunt.judging.feeds import judge_feed
from tests.hunt.system.provider import TEXT_STEP, Call, Plan, token
from tests.hunt.system.wire import Block

CALL = Call("a", 1, TEXT_STEP, 4, 0.0, outcome="whole")
TEXTS = [token(CALL, at, 0) for at in range(4)]


def _answer() -> Answer:
    return Answer("a", Order("generations", "claude", Plan(4, 0.0), {}, has_webhook=False), id="gen_1")


def _log(*events: Any) -> list[tuple[str, bytes]]:
    return [(f"7-{at}", json.dumps(event).encode()) for at, event in enumerate(events, 1)]


def _delta(text: str) -> Any:
    return {"type": "text-delta", "id": "0", "delta": text}


@pytest.mark.parametrize(
    ("texts", "is_whole", "is_right"),
    [
        (TEXTS, True, True),
        (TEXTS[:2], False, True),
        (TEXTS[:3], True, False),
        ([*TEXTS[:2], *TEXTS[1:]], True, False),
        ([TEXTS[0], *TEXTS[2:]], False, False),
        ([*TEXTS, "words"], True, False),
        ([*TEXTS, *TEXTS], True, False),
        (["<b.1.0/4>"], False, False),
        ([], True, False),
    ],
)
def test_only_the_deltas_of_one_call_in_their_order_are_a_text(
    texts: Sequence[str], is_whole: bool, is_right: bool
) -> None:
    faults = list(faults_of_text(_answer(), "".join(texts), [CALL], is_whole=is_whole))
    assert (not faults) == is_right


@pytest.mark.parametrize(
    ("log", "is_right"),
    [
        (_log({"type": "start"}, {"type": "finish"}), True),
        (_log({"type": "start"}), False),
        (_log({"type": "finish"}, {"type": "finish"}), False),
        ([("7-1", b'{"type":"start"}'), ("7-3", b'{"type":"finish"}')], False),
        ([("7-1", b'{"type":"start"}'), ("6-2", b'{"type":"finish"}')], False),
    ],
)
def test_a_log_is_dense_and_ends_once(log: list[tuple[str, bytes]], is_right: bool) -> None:
    assert (not list(judge_log("gen_1", log))) == is_right


def test_an_end_has_a_cause() -> None:
    answer = _answer()
    for ending in (Ending("abort", "stopped"), Ending("error", "worker_lost"), Ending("error", "provider_error")):
        assert list(judge_ending(answer, ending, [CALL], stalled=False))
    answer.stop_requested = True
    assert not list(judge_ending(answer, Ending("abort", "stopped"), [CALL], stalled=False))
    assert not list(judge_ending(answer, Ending("finish", ""), [CALL], stalled=False))


def test_a_call_after_a_stop_is_noticed_unless_the_worker_could_not_know() -> None:
    answer, call = _answer(), Call("a", 1, TEXT_STEP, 4, began=105.0)
    answer.stop_acked = 100.0
    assert list(judge_calls(answer, [call], excused=[]))
    assert not list(judge_calls(answer, [call], excused=[(99.0, 106.0)]))


def _viewer(dialect: str, *blocks: Block) -> Viewer:
    viewer = Viewer("viewer", "gen_1", dialect, ["http://x"], random.Random(0), lambda: True)
    for block in blocks:
        if viewer.fold.take(block) is Next.DONE:
            viewer.ended_at = 1.0
    return viewer


def _entry(seq: int, event: Any) -> Block:
    return Block("", json.dumps(event), f"7-{seq}", is_comment=False)


def _judged(log: list[tuple[str, bytes]]) -> Judged:
    events = [json.loads(event) for _, event in log]
    return Judged(events, log, _answer(), [CALL], keeps=True, lost_at=0.0, is_trimmed=False)


def test_a_viewer_must_show_what_the_log_has_and_end_as_it_does() -> None:
    log = _log(*map(_delta, TEXTS), {"type": "finish"})
    entries = [_entry(at, json.loads(event)) for at, (_, event) in enumerate(log, 1)]
    assert not list(judge_viewer(_viewer("native", *entries), _judged(log)))
    assert list(judge_viewer(_viewer("native", *entries[:-1]), _judged(log)))
    data = [Block("", json.dumps({"delta": text}), None, is_comment=False) for text in TEXTS]
    done = Block("", "[DONE]", None, is_comment=False)
    assert not list(judge_viewer(_viewer("delta", *data, done), _judged(log)))
    assert list(judge_viewer(_viewer("delta", *data, data[-1], done), _judged(log)))
    assert list(judge_viewer(_viewer("delta", *data[1:], done), _judged(log)))
    assert list(judge_viewer(_viewer("delta", *data, done), _judged(_log(*map(_delta, TEXTS), {"type": "abort"}))))


def test_a_gap_is_no_excuse_where_nothing_was_lost() -> None:
    gap = Block("hub.gap", '{"reason": "rewound"}', "7-0", is_comment=False)
    log = _log(_delta(TEXTS[0]), {"type": "abort"})
    viewer = _viewer("native", gap, _entry(1, _delta(TEXTS[0])), _entry(2, {"type": "abort"}))
    assert list(judge_viewer(viewer, _judged(log)))
    assert not list(judge_viewer(viewer, _judged(log)._replace(keeps=False)))


@pytest.mark.parametrize(
    ("keeps", "has_lease", "ended", "is_right"),
    [
        (False, False, False, True),
        (False, True, False, False),
        (True, False, False, False),
        (False, False, True, False),
    ],
)
def test_only_a_feed_without_a_lease_may_stay_open_and_only_after_a_loss(
    keeps: bool, has_lease: bool, ended: bool, is_right: bool
) -> None:
    log = _log(_delta(TEXTS[0]), *([{"type": "finish"}] if ended else []))
    held = _judged(log)._replace(answer=None, calls=[], keeps=keeps, has_lease=has_lease)
    assert (not list(judge_viewer(_viewer("native", _entry(1, _delta(TEXTS[0]))), held))) is is_right


def test_the_native_fold_refuses_a_hole_and_a_double() -> None:
    for seq in (1, 3):
        fold = NativeFold()
        fold.take(_entry(1, _delta("a")))
        with pytest.raises(Wrong):
            fold.take(_entry(seq, _delta("b")))


def test_a_delta_without_its_start_is_refused_where_clients_throw() -> None:
    for dialect, body in (
        ("ai-sdk", {"type": "text-delta", "id": "1", "delta": "a"}),
        ("ag-ui", {"type": "TEXT_MESSAGE_CONTENT", "messageId": "1", "delta": "a"}),
    ):
        with pytest.raises(Wrong):
            FOLDS[dialect]().take(Block("", json.dumps(body), None, is_comment=False))


@pytest.mark.parametrize(
    ("numbers", "acked", "is_right"),
    [([0, 1, 2], [0, 1, 2], True), ([0, 2], [0, 1, 2], False), ([0, 1, 1], [0, 1], False), ([1, 0], [0, 1], False)],
)
def test_a_feed_holds_each_event_of_a_writer_once_and_in_order(
    numbers: list[int], acked: list[int], is_right: bool
) -> None:
    log = _log(*({"type": EVENT, "data": {"w": "library", "n": n}} for n in numbers))
    feed = HuntedFeed("f", {"library": Written(dict.fromkeys(acked, ""))})
    events = [json.loads(event) for _, event in log]
    assert (not list(judge_feed(feed, log, events, keeps=True))) == is_right
