"""The ring: what it holds, what it finds, what it counts."""

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.core.entry import Entry
from broadcaster.dialects import NATIVE
from broadcaster.hub.ring import ENTRY_OVERHEAD_BYTES, SEGMENT_BYTES, SEGMENT_ENTRIES, Ledger, Ring, Segment

TRANSCRIPT = NATIVE.open("g")


def entry(seq: int, *, size: int = 20, epoch: int = 5) -> Entry:
    return Entry(epoch, seq, b'{"type":"text-delta","id":"t","delta":"%b"}' % (b"x" * size))


def ring_of(count: int, *, size: int = 20) -> tuple[Ring, Ledger]:
    ledger = Ledger()
    ring = Ring(ledger)
    for seq in range(1, count + 1):
        ring.append(entry(seq, size=size))
    return ring, ledger


def whole(segment: Segment) -> list[int]:
    return [each.seq for each in segment.entries]


def test_segments_are_cut_by_count() -> None:
    ring, _ = ring_of(SEGMENT_ENTRIES + 1)
    first, second = ring.find(1), ring.find(SEGMENT_ENTRIES + 1)
    assert first is not None
    assert second is not None
    assert whole(first) == list(range(1, SEGMENT_ENTRIES + 1))
    assert whole(second) == [SEGMENT_ENTRIES + 1]


def test_segments_are_cut_by_bytes_so_that_their_frames_fit_one_write() -> None:
    ring, _ = ring_of(40, size=5000)
    seq = 1
    while segment := ring.find(seq):
        assert len(segment.chunk(TRANSCRIPT, after_seq=seq - 1)) <= SEGMENT_BYTES
        assert len(segment.entries) > 1
        seq = segment.last_seq + 1
    assert seq == 41


def test_an_entry_larger_than_a_segment_stands_alone() -> None:
    ring, _ = ring_of(3, size=SEGMENT_BYTES)
    assert len(ring) == 3


def test_a_chunk_is_one_object_for_all_and_a_new_entry_makes_another() -> None:
    ring, _ = ring_of(3)
    segment = ring.find(2)
    assert segment is not None
    chunk = segment.chunk(TRANSCRIPT, after_seq=1)
    assert segment.chunk(TRANSCRIPT, after_seq=1) is chunk
    ring.append(entry(4))
    assert segment.chunk(TRANSCRIPT, after_seq=1) == chunk + NATIVE.frame(*entry(4))


def test_only_the_latest_chunks_are_remembered_and_counted() -> None:
    ring, ledger = ring_of(100)
    before = ledger.bytes
    segment = ring.find(1)
    assert segment is not None
    for after_seq in range(100):
        segment.chunk(TRANSCRIPT, after_seq=after_seq)
    remembered = sum(len(segment.chunk(TRANSCRIPT, after_seq=after_seq)) for after_seq in range(96, 100))
    assert ledger.bytes == before + remembered


def test_a_jump_is_answered_with_the_segment_behind_it() -> None:
    ring, _ = ring_of(2)
    ring.append(entry(10))
    found = ring.find(3)
    assert found is not None
    assert found.first_seq == 10
    assert found.before == (5, 9)


def test_before_and_after_the_ring_nothing_is_found() -> None:
    ring = Ring(Ledger())
    assert ring.find(1) is None
    ring.append(entry(7))
    assert ring.find(6) is None
    assert ring.find(8) is None


@given(
    sizes=st.lists(st.integers(0, 40_000), min_size=1, max_size=60),
    steps=st.lists(st.one_of(st.just("drop"), st.integers(1, 70)), max_size=20),
)
def test_whatever_happens_the_ledger_counts_all_bytes_and_finds_are_right(sizes, steps) -> None:
    hub_ledger = Ledger()
    ledger = Ledger(hub_ledger)
    ring = Ring(ledger)
    held: dict[int, Entry] = {}
    for seq, size in enumerate(sizes, start=1):
        held[seq] = entry(seq, size=size)
        ring.append(held[seq])
    for step in steps:
        if step == "drop" and len(ring):
            oldest = ring.find(ring.first_seq)
            assert oldest is not None
            for seq in whole(oldest):
                del held[seq]
            ring.drop_oldest()
        elif isinstance(step, int):
            ring.keep_through(step)
            held = {seq: each for seq, each in held.items() if seq <= step}
    entries_bytes = sum(len(each.event) + ENTRY_OVERHEAD_BYTES for each in held.values())
    assert ledger.bytes == hub_ledger.bytes == entries_bytes
    for seq in range(1, len(sizes) + 1):
        found = ring.find(seq)
        assert (found is not None) == (seq in held)
        if found is not None:
            assert held[seq] in found.entries
    ring.clear()
    assert ledger.bytes == hub_ledger.bytes == 0


def test_a_released_segment_still_serves_its_readers_uncounted() -> None:
    ledger = Ledger()
    segment = Segment(entry(1), ledger=ledger)
    segment.release()
    assert segment.chunk(TRANSCRIPT, after_seq=0) == NATIVE.frame(*entry(1))
    assert ledger.bytes == 0


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 90), st.sampled_from([1, 300, 20_000])), max_size=8))
def test_events_that_come_without_entries_are_held_as_entries_are(pieces: list[tuple[bool, int, int]]) -> None:
    """The same in both ways, whichever way a piece comes by."""
    ledgers = Ledger(), Ledger()
    alone, mixed = Ring(ledgers[0]), Ring(ledgers[1])
    seq = 0
    for by_events, count, size in pieces:
        entries = [entry(seq + at, size=size) for at in range(1, min(count, 200_000 // size) + 1)]
        seq += len(entries)
        for each in entries:
            alone.append(each)
        if by_events:
            mixed.extend(entries[0].cursor, [each.event for each in entries])
        else:
            for each in entries:
                mixed.append(each)
    assert ledgers[0].bytes == ledgers[1].bytes
    for at in range(1, seq + 1):
        one, other = alone.find(at), mixed.find(at)
        assert one is not None
        assert other is not None
        assert one.entries == other.entries
    for ring in (alone, mixed):
        ring.keep_through(seq // 2)
    assert ledgers[0].bytes == ledgers[1].bytes
