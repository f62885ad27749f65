"""What spoils a good history, by one change: named ones with the rule that must catch them, and any change by chance.

A corruption changes a copy. It answers False when the history has no place for it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import is_terminal
from tests.faults.history import Acked, Closed, Got, History, Noticed, Opened, Rule, ViewerTrace
from tests.faults.model import STREAM

_END: Final = b'{"type":"finish","finishReason":"length"}'
_OTHER: Final = b'{"type":"text-delta","id":"0","delta":"never said"}'


class Spot(NamedTuple):
    """A happening in a viewer's trace."""

    trace: ViewerTrace
    at: int

    @property
    def happening(self) -> Any:
        return self.trace.happenings[self.at]

    @property
    def later(self) -> list[Any]:
        return list(self.trace.happenings[self.at + 1 :])

    def put(self, *happenings: Any) -> bool:
        self.trace.happenings[self.at : self.at + 1] = happenings
        return True


def copied(history: History) -> History:
    """The same, to be changed."""
    viewers = {name: ViewerTrace(trace.stream, list(trace.happenings)) for name, trace in history.viewers.items()}
    log = {stream: list(entries) for stream, entries in history.log.items()}
    return History(list(history.acked), viewers, log, history.is_lossy, history.trimmed)


def is_gap(happening: object) -> bool:
    return isinstance(happening, Noticed) and happening.name == "hub.gap"


def _is_rewind(happening: object) -> bool:
    return isinstance(happening, Noticed) and b"rewound" in happening.data


def is_move(happening: object) -> bool:
    return isinstance(happening, Got) or is_gap(happening)


def is_end(happening: object) -> bool:
    return isinstance(happening, Got) and is_terminal(happening.data)


def is_whole(trace: ViewerTrace) -> bool:
    return any(is_end(each) or (isinstance(each, Opened) and each.status == 204) for each in trace.happenings)


def spots(history: History, wanted: Callable[[Spot], bool]) -> list[Spot]:
    """Every happening that fits."""
    found = (Spot(trace, at) for trace in history.viewers.values() for at in range(len(trace.happenings)))
    return [spot for spot in found if wanted(spot)]


def log_of(history: History) -> list[Entry]:
    log = history.log[STREAM]
    assert isinstance(log, list)
    return log


def acked_ids(history: History) -> Iterator[Cursor]:
    for acked in history.acked:
        yield from (Cursor(acked.epoch, acked.first_seq + at) for at in range(len(acked.events)))


def _acked_too(history: History, *acked: Acked) -> bool:
    history.acked = [*history.acked, *acked]
    return True


def _chosen(rng: random.Random, history: History, wanted: Callable[[Spot], bool]) -> Spot | None:
    found = spots(history, wanted)
    return rng.choice(found) if found else None


def _in_log(history: History, spot: Spot) -> bool:
    return isinstance(spot.happening, Got) and spot.happening.id in {str(each.cursor) for each in log_of(history)}


# -- named ones


def lose_one(history: History, rng: random.Random) -> bool:
    """A viewer is not sent an entry, and goes on with the next."""
    spot = _chosen(rng, history, lambda it: isinstance(it.happening, Got) and any(map(is_move, it.later)))
    return spot is not None and spot.put()


def send_twice(history: History, rng: random.Random) -> bool:
    """A viewer is sent an entry twice."""
    spot = _chosen(rng, history, lambda it: isinstance(it.happening, Got) and not is_end(it.happening))
    return spot is not None and spot.put(spot.happening, spot.happening)


def change_places(history: History, rng: random.Random) -> bool:
    """Two entries come in the wrong order."""
    spot = _chosen(
        rng, history, lambda it: isinstance(it.happening, Got) and any(isinstance(each, Got) for each in it.later[:1])
    )
    if spot is None or is_end(spot.later[0]):
        return False
    first, second = spot.happening, spot.later[0]
    del spot.trace.happenings[spot.at + 1]
    return spot.put(second, first)


def hide_rewind(history: History, rng: random.Random) -> bool:
    """A viewer is not notified that what it has is void."""
    spot = _chosen(rng, history, lambda it: _is_rewind(it.happening) and isinstance(it.later[0], Got))
    return spot is not None and spot.put()


def name_too_little(history: History, rng: random.Random) -> bool:
    """A gap names all but the last of what is missing."""
    spot = _chosen(rng, history, lambda it: is_gap(it.happening))
    if spot is None:
        return False
    gap = json.loads(spot.happening.data)
    return spot.put(replace(spot.happening, data=json.dumps({**gap, "to": gap["to"] - 1}).encode()))


def report_a_false_gap(history: History, rng: random.Random) -> bool:
    """In place of an entry comes a gap, though the log holds the entry."""
    spot = _chosen(rng, history, lambda it: _in_log(history, it) and not is_end(it.happening))
    if spot is None:
        return False
    seq = Cursor.parse(spot.happening.id).seq
    gap = json.dumps({"reason": "trimmed", "from": seq, "to": seq}).encode()
    return spot.put(Noticed("hub.gap", gap, spot.happening.id))


def send_other_bytes(history: History, rng: random.Random) -> bool:
    """An entry arrives changed."""
    spot = _chosen(rng, history, lambda it: _in_log(history, it) and is_whole(it.trace) and not is_end(it.happening))
    return spot is not None and spot.put(replace(spot.happening, data=_OTHER))


def send_an_unwritten_entry(history: History, rng: random.Random) -> bool:
    """In place of a new attempt's first entry comes one of an epoch that the log refused."""
    spot = _chosen(
        rng, history, lambda it: _in_log(history, it) and is_whole(it.trace) and b'"attempt"' in it.happening.data
    )
    if spot is None:
        return False
    epoch, seq = Cursor.parse(spot.happening.id)
    before = [Cursor.parse(each.id) for each in spot.trace.happenings[: spot.at] if isinstance(each, Got)]
    if before and before[-1].epoch == epoch - 1:
        return False
    return spot.put(replace(spot.happening, id=f"{epoch - 1}-{seq}"))


def let_a_zombie_through(history: History, rng: random.Random) -> bool:
    """An entry of an older epoch comes after one of a newer."""
    spot = _chosen(
        rng, history, lambda it: isinstance(it.happening, Got) and any(isinstance(each, Got) for each in it.later[:1])
    )
    if spot is None:
        return False
    epoch, seq = Cursor.parse(spot.happening.id)
    spot.trace.happenings[spot.at + 1] = Got(f"{epoch - 1}-{seq + 1}", _OTHER)
    return True


def end_cleanly_without_terminal(history: History, rng: random.Random) -> bool:
    """The terminal event is not sent, and the response ends as if all were well."""
    spot = _chosen(rng, history, lambda it: is_end(it.happening) and it.later[:1] == [Closed("clean")])
    return spot is not None and spot.put()


def send_no_bye(history: History, rng: random.Random) -> bool:
    """A response ends properly before its stream does, without a notice."""
    spot = _chosen(rng, history, lambda it: isinstance(it.happening, Noticed) and it.happening.name == "hub.bye")
    return spot is not None and spot.put()


def mend_a_torn_end(history: History, rng: random.Random) -> bool:
    """A response that broke gets a proper end: something between took it for whole."""
    spot = _chosen(
        rng, history, lambda it: it.happening == Closed("torn") and not any(map(is_end, it.trace.happenings[: it.at]))
    )
    return spot is not None and spot.put(Closed("clean"))


def kill_an_event_source(history: History, rng: random.Random) -> bool:
    """A reconnect is answered with a status after which an EventSource never retries."""
    spot = _chosen(rng, history, lambda it: isinstance(it.happening, Opened) and it.happening.status == 200)
    return spot is not None and spot.put(replace(spot.happening, status=503), Closed("torn"))


def answer_204_too_early(history: History, rng: random.Random) -> bool:
    """A viewer that is cut before the last entries gets a 204."""
    spot = _chosen(rng, history, lambda it: isinstance(it.happening, Got) and _in_log(history, it) and bool(it.later))
    if spot is None or is_end(spot.happening):
        return False
    del spot.trace.happenings[spot.at + 1 :]
    return spot.put(spot.happening, Closed("torn"), Opened(spot.happening.id, 204), Closed("clean"))


def end_twice(history: History, rng: random.Random) -> bool:
    """A viewer gets another terminal event after the first."""
    spot = _chosen(rng, history, lambda it: is_end(it.happening))
    if spot is None:
        return False
    epoch, seq = Cursor.parse(spot.happening.id)
    return spot.put(spot.happening, Got(f"{epoch + 1}-{seq + 1}", _END))


def end_the_log_twice(history: History, rng: random.Random) -> bool:
    """Two workers end the log."""
    end = log_of(history)[-1]
    log_of(history).append(Entry(end.epoch + 1, end.seq + 1, _END))
    return True


def leave_the_log_open(history: History, rng: random.Random) -> bool:
    """The log never gets its terminal event."""
    del log_of(history)[-1]
    return True


def tear_the_log(history: History, rng: random.Random) -> bool:
    """The log has a hole."""
    log = log_of(history)
    if len(log) < 3:
        return False
    del log[rng.randrange(1, len(log) - 1)]
    return True


def behead_the_log(history: History, rng: random.Random) -> bool:
    """The log has lost its first entry, and no process trimmed it."""
    if history.trimmed or history.is_lossy or len(log_of(history)) < 2:
        return False
    del log_of(history)[0]
    return True


def forget_a_viewer(history: History, rng: random.Random) -> bool:
    """A viewer waits for the rest of its stream to the end of the history."""
    spot = _chosen(rng, history, lambda it: isinstance(it.happening, Got) and is_end(it.happening))
    if spot is None:
        return False
    del spot.trace.happenings[spot.at :]
    return True


def let_a_zombie_write(history: History, rng: random.Random) -> bool:
    """The log takes an entry of an older epoch behind one of a newer."""
    log = log_of(history)
    at = rng.randrange(len(log))
    log[at + 1 : at + 1] = [Entry(log[at].epoch - 1, log[at].seq + 1, _OTHER)]
    return True


def forget_what_was_acknowledged(history: History, rng: random.Random) -> bool:
    """An append was acknowledged, and its event is nowhere."""
    end = log_of(history)[-1]
    return _acked_too(history, Acked(STREAM, end.epoch, end.seq + 1, (_OTHER,)))


def replace_what_was_acknowledged(history: History, rng: random.Random) -> bool:
    """Another worker's entry took the place of one that was acknowledged."""
    entry = rng.choice(log_of(history))
    return not history.is_lossy and _acked_too(history, Acked(STREAM, entry.epoch - 1, entry.seq, (_OTHER,)))


NAMED: Final[dict[Callable[[History, random.Random], bool], Rule]] = {
    lose_one: "dense_or_declared",
    send_twice: "no_double",
    change_places: "sorted",
    hide_rewind: "sorted",
    name_too_little: "dense_or_declared",
    report_a_false_gap: "dense_or_declared",
    send_other_bytes: "viewer_equals_log",
    send_an_unwritten_entry: "viewer_equals_log",
    let_a_zombie_through: "sorted",
    end_cleanly_without_terminal: "no_torn_clean_end",
    send_no_bye: "no_torn_clean_end",
    mend_a_torn_end: "no_torn_clean_end",
    kill_an_event_source: "no_torn_clean_end",
    answer_204_too_early: "viewer_equals_log",
    end_twice: "one_terminal",
    end_the_log_twice: "one_terminal",
    leave_the_log_open: "one_terminal",
    tear_the_log: "log_is_dense",
    behead_the_log: "log_is_dense",
    forget_a_viewer: "viewer_equals_log",
    let_a_zombie_write: "log_is_dense",
    forget_what_was_acknowledged: "acked_delivered_or_declared",
    replace_what_was_acknowledged: "acked_delivered_or_declared",
}
"""Each with the rule that must catch it."""
