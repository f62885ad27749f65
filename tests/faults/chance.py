"""One change of a history by chance, and whether it is harmless: whether the promises allow the changed history too.

Each function changes something and answers that. The reasons are given where it is.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.events import is_terminal
from tests.faults.history import Acked, Closed, Got, History, Noticed, Opened, ViewerTrace
from tests.faults.redis.corruptions import (
    Spot,
    acked_ids,
    is_end,
    is_gap,
    is_move,
    is_whole,
    log_of,
    spots,
)

_OTHER: Final = b'{"type":"text-delta","id":"0","delta":"never said"}'
_OTHER_END: Final = b'{"type":"abort","reason":"never said"}'


def change_by_chance(history: History, rng: random.Random) -> bool:
    """Change one thing; whether that is harmless."""
    is_harmless = rng.choice(_CHANGES)(history, rng)
    return is_harmless and all(map(_is_whole_or_left, history.viewers.values()))


def _is_whole_or_left(trace: ViewerTrace) -> bool:
    return is_whole(trace) or not trace.happenings or trace.happenings[-1] == Closed("left")


def _drop_happening(history: History, rng: random.Random) -> bool:
    spot = rng.choice(spots(history, lambda it: True))
    gone, later = spot.happening, spot.later
    moves_on = any(map(is_move, later))
    spot.put()
    match gone:
        case Got():
            # The last thing a viewer received, if nothing after it shows that there was more.
            ends_cleanly = Closed("clean") in later or any(
                isinstance(each, Opened) and each.status == 204 for each in later
            )
            return not moves_on and not (is_end(gone) and ends_cleanly)
        case Noticed():
            return gone.name != "hub.bye" and not is_gap(gone)
        case Opened():
            # Only the first shows where the viewer begins; or the next, when nothing came before.
            first = next((each for each in later if is_move(each) or isinstance(each, Opened)), None)
            is_needed = gone.status == 204 or is_move(first)
            return spot.at > 0 or gone.after is None or not is_needed
        case _:
            return True


def _repeat_happening(history: History, rng: random.Random) -> bool:
    spot = rng.choice(spots(history, lambda it: True))
    spot.put(spot.happening, spot.happening)
    return not is_move(spot.happening)


def _swap_moves(history: History, rng: random.Random) -> bool:
    found = spots(history, lambda it: is_move(it.happening) and any(map(is_move, it.later[:1])))
    if not found:
        return True
    spot = rng.choice(found)
    first, second = spot.happening, spot.later[0]
    del spot.trace.happenings[spot.at + 1]
    spot.put(second, first)
    return False


def _alter_happening(history: History, rng: random.Random) -> bool:
    spot = rng.choice(spots(history, lambda it: True))
    was = spot.happening
    match was:
        case Got():
            spot.put(replace(was, data=_OTHER_END if is_end(was) else _OTHER))
            return _is_unknown(history, spot)
        case Noticed() if is_gap(was):
            gap = json.loads(was.data)
            spot.put(replace(was, data=json.dumps({**gap, "to": gap["to"] + 1}).encode()))
            return False
        case Opened():
            spot.put(replace(was, status=503))
            return False
        case Closed():
            is_torn = was == Closed("torn")
            spot.put(Closed("clean" if is_torn else "torn"))
            return not is_torn or any(map(is_end, spot.trace.happenings[: spot.at]))
        case _:
            return True


def _is_unknown(history: History, spot: Spot) -> bool:
    """Whether neither an acknowledgement nor the log shows what this entry was when the viewer held it to its end."""
    cursor = Cursor.parse(spot.happening.id)
    if cursor in set(acked_ids(history)):
        return False
    is_void = any(is_gap(each) and Cursor.parse(each.id).seq < cursor.seq for each in spot.later)
    is_compared = is_whole(spot.trace) or not history.is_lossy
    return is_void or not is_compared or cursor.seq not in {entry.seq for entry in log_of(history)}


def _drop_entry(history: History, rng: random.Random) -> bool:
    log = log_of(history)
    at = rng.randrange(len(log))
    del log[at]
    may_lose_its_head = bool(history.trimmed) or history.is_lossy
    return at == 0 and len(log) > 0 and may_lose_its_head  # as if it had been trimmed


def _repeat_entry(history: History, rng: random.Random) -> bool:
    log = log_of(history)
    at = rng.randrange(len(log))
    log.insert(at, log[at])
    return False


def _alter_entry(history: History, rng: random.Random) -> bool:
    log = log_of(history)
    at = rng.randrange(len(log))
    epoch, seq, event = was = log[at]
    log[at] = Entry(epoch, seq, _OTHER_END if is_terminal(event) else _OTHER)
    comparing = [trace for trace in history.viewers.values() if is_whole(trace) or not history.is_lossy]
    is_held = any(Got(str(was.cursor), event) in trace.happenings for trace in comparing)
    return not is_held and was.cursor not in set(acked_ids(history))


def _drop_acknowledgement(history: History, rng: random.Random) -> bool:
    history.acked = list(history.acked)
    if history.acked:
        del history.acked[rng.randrange(len(history.acked))]
    return True  # a worker may be killed before it receives the reply


def _alter_acknowledgement(history: History, rng: random.Random) -> bool:
    ids = list(acked_ids(history))
    if not ids:
        return True
    chosen = rng.choice(ids)
    history.acked = [_altered(acked, chosen) for acked in history.acked]
    was_seen = any(
        isinstance(each, Got) and each.id == str(chosen)
        for trace in history.viewers.values()
        for each in trace.happenings
    )
    return not was_seen and chosen not in {entry.cursor for entry in log_of(history)}


def _altered(acked: Acked, cursor: Cursor) -> Acked:
    at = cursor.seq - acked.first_seq
    if acked.epoch != cursor.epoch or not 0 <= at < len(acked.events):
        return acked
    return replace(acked, events=(*acked.events[:at], _OTHER, *acked.events[at + 1 :]))


_CHANGES: Final[tuple[Callable[[History, random.Random], bool], ...]] = (
    _drop_happening,
    _repeat_happening,
    _swap_moves,
    _alter_happening,
    _drop_entry,
    _repeat_entry,
    _alter_entry,
    _drop_acknowledgement,
    _alter_acknowledgement,
)
