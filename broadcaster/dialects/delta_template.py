"""The frames of an open part's deltas, made by copying: nothing is parsed, and the transcript is not touched.

Nearly all events of an answer are deltas, and most differ from the one before in their text alone. In every dialect so
do their frames, except for the id and the number. A delta's text is a JSON string, and stands in the frame as it stands
in the event.

Rules
1. A template is learned from one frame and proved by the next: what differs between them must be the text, the id and
   the number. A dialect for which that is not so gets no template.
2. It copies only what encoding would give byte for byte: an event as ``encode_event`` writes it, with a text that is
   not empty and has no other escapes than JSON's short ones.
3. It holds until the transcript encodes anything else than deltas that it copies.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from broadcaster.core.entry import Entry

LONGEST_EVENT: Final = 512
"""In bytes. Of a longer event the encoding costs no more than the copy."""

LONGEST_FRAMES: Final = 4096
"""In bytes. Longer frames hold more than a delta, and nothing is learned from them."""

_TEXT: Final = rb'("(?!")[^"\\\x00-\x1f]*+(?:\\["\\bfnrt][^"\\\x00-\x1f]*+)*+")\}'
_REST: Final = re.compile(_TEXT)
_DELTA: Final = re.compile(
    rb'(\{"type":"(?:(?:text|reasoning)-delta","id":"[^"\\]*","delta"'
    rb'|tool-input-delta","toolCallId":"[^"\\]*","inputTextDelta"):)' + _TEXT
)
_ID: Final = b"id: %d-%d\n"
_NUMBER: Final = b'"sequence_number":%d,'
"""How a dialect that numbers its events writes a number."""


class CopyableDelta(NamedTuple):
    """A delta that can be copied: ``head`` is what it has in common with the others of its part, ``text`` is JSON."""

    head: bytes
    text: bytes

    @classmethod
    def read(cls, event: bytes) -> CopyableDelta | None:
        """Rule 2."""
        found = _DELTA.fullmatch(event)
        return None if found is None or len(event) > LONGEST_EVENT else cls(found[1], found[2])


class DeltaTemplate:
    """See the module's rules. ``learned_from``: it is not proved by a delta with the same text."""

    __slots__ = ("_epoch", "_first_number", "_form", "_has_id", "learned_from")

    def __init__(self, entry: Entry, delta: CopyableDelta, frames: bytes, *, number: int) -> None:
        """Learn from the frames of this entry, which is this delta; ``number``: the last one among them, or -1."""
        epoch, seq, _ = entry
        self.learned_from = delta
        self._epoch = epoch
        form = frames.replace(b"%", b"%%")
        form, self._has_id = _placed(form, _ID % (epoch, seq), _ID)
        form, is_numbered = _placed(form, _NUMBER % number, _NUMBER)
        self._form, _ = _placed(form, delta.text.replace(b"%", b"%%"), b"%b")
        self._first_number = number - seq if is_numbered else None

    def is_proved(self, entry: Entry, delta: CopyableDelta, frames: bytes) -> bool:
        """Whether it would have made these frames of the next entry, which is this delta (rule 1)."""
        known = self.learned_from
        if delta.head != known.head or delta.text == known.text:
            return False
        try:
            return self.frames(entry.epoch, entry.seq, [entry.event]) == frames
        except (TypeError, ValueError):  # a place is missing, is there twice, or they are in another order
            return False

    def frames(self, epoch: int, last_seq: int, events: list[bytes]) -> bytes | None:
        """The frames of the next deltas; None where one of them cannot be copied (rule 2)."""
        if epoch != self._epoch:
            return None
        if len(events) == 1:  # nearly always
            return self._frame(last_seq, events[0])
        frames: list[bytes] = []
        for seq, event in enumerate(events, last_seq - len(events) + 1):
            frame = self._frame(seq, event)
            if frame is None:
                return None
            frames.append(frame)
        return b"".join(frames)

    def _frame(self, seq: int, event: bytes) -> bytes | None:
        head = self.learned_from.head
        if not event.startswith(head) or len(event) > LONGEST_EVENT:
            return None
        rest = _REST.fullmatch(event, len(head))
        if rest is None or not (event.isascii() or _is_utf8(event)):
            return None
        if self._first_number is not None:
            return self._form % (self._first_number + seq, rest[1])
        return self._form % ((self._epoch, seq, rest[1]) if self._has_id else rest[1])


def _placed(form: bytes, value: bytes, place: bytes) -> tuple[bytes, bool]:
    """With a place instead of this value, and whether it is there."""
    return form.replace(value, place), value in form


def _is_utf8(event: bytes) -> bool:
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True
