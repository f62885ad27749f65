"""The room's stream in one dialect: how much is encoded, kept and given back, however many viewers read it."""

from __future__ import annotations

import asyncio
import dataclasses
import time
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import pytest

from broadcaster.core.cursor import Cursor
from broadcaster.core.entry import Entry
from broadcaster.core.notices import Gap, GapReason
from broadcaster.dialects import DIALECTS
from broadcaster.hub import flusher
from broadcaster.hub.flusher import Turns
from broadcaster.hub.frames import Stretch, Stretches
from broadcaster.hub.hub import Hub
from broadcaster.hub.limits import HubLimits
from broadcaster.hub.replay.checkpoints import INTERVAL_ENTRIES, Checkpoint, Checkpoints
from broadcaster.hub.ring import SEGMENT_ENTRIES, SLICE_BYTES, Ledger
from broadcaster.hub.viewer import Viewer
from tests.hub.conftest import LIMITS
from tests.hub.replay.test_transcribed import read, read_on_socket, settle, witness_of
from tests.hub.support import Reader, answer, text, texts, turns
from tests.support.memory.tally_dialect import TallyDialect, TallyTranscript, sums_of
from tests.support.socket_reader import SocketReader, open_socket_reader

ENTRIES = 5_000


@dataclasses.dataclass(frozen=True)
class Counting(TallyDialect):
    """Counts what its transcripts are given, and its snapshots; these have ``padding`` bytes more."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict, hash=False, compare=False)
    padding: int = 0

    def open(self, stream_id: str) -> CountingTranscript:
        return CountingTranscript(self)


class CountingTranscript(TallyTranscript):
    def encode(self, entries: Sequence[Entry]) -> bytes:
        self.count("entries", len(entries))
        return super().encode(entries)

    def snapshot(self) -> bytes:
        self.count("snapshots", 1)
        padding = self.dialect.padding  # type: ignore[attr-defined]
        return super().snapshot() + b":" + b"x" * padding + b"\n\n"

    def fork(self) -> CountingTranscript:
        return CountingTranscript(self.dialect, self.seq, self.sum, self.is_over)

    def count(self, what: str, count: int) -> None:
        counts = self.dialect.counts  # type: ignore[attr-defined]
        counts[what] = counts.get(what, 0) + count


def room_of(hub: Hub):
    return hub._tenancies["g"].room


async def resume(hub: Hub, dialect: TallyDialect, places: Sequence[int]) -> list[Reader]:
    readers = [await read(hub, dialect, after=f"5-{seq}") for seq in places]
    await settle(*readers)
    return readers


def check_rest(readers: Sequence[Reader | SocketReader], places: Sequence[int], entries: Sequence[Entry]) -> None:
    expected = sums_of(entries)
    for reader, seen in zip(readers, places, strict=True):
        assert witness_of(reader).sums == {seq: expected[seq] for seq in range(seen + 1, entries[-1].seq + 1)}


async def test_viewers_that_resume_at_one_place_cost_one_way_to_it(hub, tail):
    entries, dialect, places = answer(ENTRIES), Counting(), [4_000] * 50
    tail.log["g"].extend(entries)
    check_rest(await resume(hub, dialect, places), places, entries)
    assert dialect.counts["entries"] <= ENTRIES + SEGMENT_ENTRIES


async def test_viewers_that_resume_everywhere_cost_a_few_ways_and_not_one_each(hub, tail):
    entries, dialect, places = answer(ENTRIES), Counting(), list(range(40, ENTRIES, 100))
    tail.log["g"].extend(entries)
    check_rest(await resume(hub, dialect, places), places, entries)
    assert dialect.counts["entries"] <= 2 * ENTRIES


async def test_viewers_that_resume_at_the_end_go_live_without_an_entry_encoded_twice(hub, tail):
    dialect = Counting()
    tail.log["g"].extend(texts(5, 1, ENTRIES))
    readers = []
    for _ in range(20):
        viewer = await hub.join("g", cursor=Cursor(5, ENTRIES), timeout_s=5, dialect=dialect)
        assert isinstance(viewer, Viewer)
        readers.append(await open_socket_reader(viewer, cursor=None))
    while any(reader.viewer._group is None for reader in readers):
        await turns(1)
    assert dialect.counts["entries"] == ENTRIES
    for reader in readers:
        reader.close()


async def test_a_viewer_that_resumes_later_begins_at_the_checkpoint_before_its_cursor(hub, tail):
    entries, dialect = answer(ENTRIES), Counting()
    tail.log["g"].extend(entries)
    first = await resume(hub, dialect, [ENTRIES - 1])
    encoded = dialect.counts["entries"]
    check_rest(await resume(hub, dialect, [3_500]), [3_500], entries)
    assert dialect.counts["entries"] - encoded <= ENTRIES - 3_500 + INTERVAL_ENTRIES + SEGMENT_ENTRIES
    first[0].viewer.leave()


async def test_a_viewer_behind_a_snapshot_reads_on_although_an_older_entry_is_kept_by_itself(hub, tail):
    tail.append("g", *texts(5, 1, 5))
    slow = await read(hub)
    await settle(slow)
    tail.append("g", text(5, 6))
    await settle(slow)  # the frames of entry 6 are kept
    tail.append("g", text(5, 7))
    late = await read(hub)
    late.pull_all()  # encodes entry 7 and keeps no frames of it
    late.viewer.leave()
    tail.append("g", *texts(5, 8, 30))
    await settle(slow)
    assert witness_of(slow).last_seq == 30


@pytest.mark.parametrize("spans", [[(6, 6), (4, 29)], [(4, 29), (6, 6)], [(4, 29), (4, 6)], [(4, 6), (5, 9), (4, 29)]])
def test_a_kept_entry_is_found_however_the_stretches_overlap(spans: list[tuple[int, int]]) -> None:
    ledger, transcript = Ledger(), TallyDialect().open("g")
    stretches = Stretches(max_bytes=1000)
    for span in spans:
        stretches.add(Stretch(b"frames", span=span, transcript=transcript, ends=None, ledger=ledger))

    for seq in range(4, 30):
        found = stretches.find(seq)
        assert found is not None
        assert found.first_seq <= seq <= found.last_seq
    assert stretches.find(3) is stretches.find(30) is None
    stretches.keep_through(0)
    assert ledger.bytes == 0


def test_a_kept_entry_is_found_after_the_stretch_that_also_held_it_has_fallen_out() -> None:
    ledger, transcript = Ledger(), TallyDialect().open("g")
    first, *others = (
        Stretch(b"frames", span=span, transcript=transcript, ends=None, ledger=ledger)
        for span in [(5, 12), (1, 10), (3, 9), (20, 21)]
    )
    stretches = Stretches(max_bytes=2 * len(first))
    for stretch in (first, *others):
        stretches.add(stretch)

    assert stretches.find(12) is None
    for seq in range(1, 11):
        found = stretches.find(seq)
        assert found is not None
        assert found.last_seq == 10


async def test_a_rewind_goes_back_to_a_checkpoint_and_not_to_the_beginning(hub, tail):
    dialect = Counting()
    tail.append("g", *texts(5, 1, ENTRIES))
    late = await read(hub, dialect)
    await settle(late)
    encoded = dialect.counts["entries"]
    tail.log["g"][4_990:] = texts(6, 4_991, 5_010)
    tail.sinks["g"].rewound(Cursor(5, 4_990))
    tail.sinks["g"].deliver(texts(6, 4_991, 5_010))
    reread = await read(hub, dialect)
    await settle(late, reread)
    assert witness_of(reread).sums == {5_010: sums_of(tail.log["g"])[5_010]}
    assert dialect.counts["entries"] - encoded <= INTERVAL_ENTRIES + SEGMENT_ENTRIES + 20


async def test_snapshots_leave_the_text_to_be_shared_by_all_checkpoints(hub, tail):
    entries = [Entry(5, 1, b'{"type":"text-start","id":"t"}'), *texts(5, 2, ENTRIES, size=400)]

    async def late_joiner() -> Viewer:
        viewer = await hub.join("g", cursor=None, timeout_s=5, dialect=DIALECTS["ai-sdk"])
        assert isinstance(viewer, Viewer)
        while not viewer.pull(2**24):
            await turns(1)
        return viewer

    tail.append("g", *entries[:1])
    stays = await late_joiner()
    tracemalloc.start()
    try:
        for end in range(INTERVAL_ENTRIES, ENTRIES + 1, INTERVAL_ENTRIES):
            tail.append("g", *entries[end - INTERVAL_ENTRIES or 1 : end])
            (await late_joiner()).leave()
            stays.pull(2**24)
        room_of(hub).replays.of(DIALECTS["ai-sdk"])._forget_snapshot()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2 * 400 * ENTRIES


async def test_a_large_snapshot_also_serves_viewers_that_come_a_little_later(hub, tail):
    dialect = Counting(padding=SLICE_BYTES)
    tail.append("g", *texts(5, 1, 1_000))
    early = await read(hub, dialect)
    await settle(early)
    tail.append("g", *texts(5, 1_001, 1_010))
    late = await read(hub, dialect)
    await settle(early, late)
    assert dialect.counts["snapshots"] == 1
    expected = sums_of(tail.log["g"])
    assert witness_of(late).sums == {seq: expected[seq] for seq in range(1_000, 1_011)}


async def test_a_snapshot_is_counted_until_its_last_reader_has_it(hub, tail):
    dialect = Counting(padding=10 * SLICE_BYTES)
    tail.append("g", *texts(5, 1, 10))
    readers = [await read_on_socket(hub, dialect) for _ in range(3)]
    await turns(5)
    held = hub.statistics().bytes
    assert 10 * SLICE_BYTES < held < 10 * SLICE_BYTES + 4 * (SLICE_BYTES + 4096)
    room_of(hub).shed()
    assert hub.statistics().bytes > 10 * SLICE_BYTES
    await settle(*readers)
    assert hub.statistics().bytes < SLICE_BYTES
    for reader in readers:
        reader.close()


async def test_the_more_viewers_there_are_the_smaller_is_what_their_transports_hold(tail):
    hub = Hub(tail, tail, limits=dataclasses.replace(LIMITS, hub_bytes=2**20, room_bytes=2**20))
    tail.append("g", *texts(5, 1, 400, size=1_000))
    readers = [await read_on_socket(hub, TallyDialect()) for _ in range(40)]
    await turns(50)
    unsent = sum(reader.viewer._unsent_bytes for reader in readers)
    assert unsent <= 2**19 + 40 * 4096
    for reader in readers:
        reader.close()
    await hub.aclose()


async def test_a_gap_in_new_entries_reaches_all_viewers_before_it(hub, tail):
    dialect = TallyDialect(bears_gaps=True)
    tail.append("g", *texts(5, 1, 10))
    readers = [await read(hub, dialect, after=f"5-{seq}") for seq in (3, 10, 10)]
    await settle(*readers)
    tail.sinks["g"].gap(Gap(GapReason.TRIMMED, Cursor(5, 20), 11, 20))
    tail.append("g", text(5, 21))
    await settle(*readers)
    assert [witness_of(reader).gaps for reader in readers] == [[(11, 20)]] * 3
    assert {witness_of(reader).last_seq for reader in readers} == {21}


async def test_when_memory_is_short_what_can_be_rebuilt_goes_first(tail):
    hub = Hub(tail, tail, limits=HubLimits(heartbeat_s=60, slow_viewer_s=60, hub_bytes=2**20, room_bytes=2**20))
    tail.append("g", *texts(5, 1, 1_000, size=100))
    readers = await resume(hub, TallyDialect(), [1])
    stretches = room_of(hub).replays.of(TallyDialect())._stretches
    assert all(stretches.find(seq) is not None for seq in (2, 500))
    tail.append("g", *texts(5, 1_001, 6_000, size=100))
    await turns(5)
    assert not any(stretches.find(seq) for seq in (2, 500))
    assert hub.statistics().bytes <= 2**20 + 2 * 6_000 * 160
    await settle(*readers)
    check_rest(readers, [1], tail.log["g"])
    await hub.aclose()


@pytest.mark.parametrize("has_socket", [False, True])
async def test_a_viewer_that_resumes_at_rest_is_served_when_memory_is_short(tail, has_socket: bool) -> None:
    hub = Hub(tail, tail, limits=dataclasses.replace(LIMITS, hub_bytes=2**20, room_bytes=2**20))
    tail.append("g", *texts(5, 1, 6_000, size=100))
    await resume(hub, TallyDialect(), [1])  # the transcript that it holds is beyond the bound
    assert hub.statistics().bytes > 2**20
    late = await (read_on_socket if has_socket else read)(hub, TallyDialect(), after="5-100")
    await settle(late)
    check_rest([late], [100], tail.log["g"])
    await hub.aclose()
    if isinstance(late, SocketReader):
        late.close()


async def test_rings_make_room_for_what_transcripts_hold(tail) -> None:
    hub = Hub(tail, tail, limits=dataclasses.replace(LIMITS, hub_bytes=2**20))
    for name in "abcd":
        tail.append(name, *texts(5, 1, 900, size=46))  # a quarter of the bound would be 262 KB, and the ring has 220
        viewer = await hub.join(name, cursor=Cursor(5, 1), timeout_s=5, dialect=TallyDialect())
        assert isinstance(viewer, Viewer)
        for _ in range(100):
            viewer.pull(2**16)
            await turns(1)
    assert hub.statistics().bytes <= 2**20
    await hub.aclose()


def test_checkpoints_that_cost_too_much_are_thinned_out_evenly() -> None:
    ledger = Ledger()
    checkpoints = Checkpoints(ledger=ledger, max_bytes=50_000)
    transcript = TallyDialect().open("g")
    for seq in range(100, 60_000, 100):
        if checkpoints.is_due(seq):
            checkpoints.add(Checkpoint(seq, transcript))
    kept = [checkpoint.seq for checkpoint in checkpoints._kept]
    distances = {second - first for first, second in pairwise(kept)}
    assert len(kept) >= 4
    assert max(distances) <= 2 * min(distances)
    assert ledger.bytes <= 50_000
    checkpoints.clear()
    assert ledger.bytes == 0


async def test_long_work_leaves_the_loop_to_others_after_a_while(monkeypatch) -> None:
    monkeypatch.setattr(flusher, "TURN_S", 0.0)
    done: list[int] = []
    pieces = Turns()
    for number in range(5):
        pieces.add(lambda number=number: done.append(number))  # type: ignore[misc]
    for turn in range(5):
        assert len(done) == turn
        await turns(1)
    assert done == [0, 1, 2, 3, 4]


async def test_a_crowd_that_waited_for_one_room_comes_in_a_share_at_a_turn() -> None:
    gate, came = Turns().arrivals, list[int]()

    async def come(number: int) -> None:
        await gate.enter()
        came.append(number)

    crowd = [asyncio.create_task(come(number)) for number in range(3 * flusher.ARRIVALS_A_TURN)]
    crowd[-1].cancel()
    counts = []
    while len(came) < len(crowd) - 1:
        before = len(came)
        await turns(1)
        counts.append(len(came) - before)
    assert max(counts) <= flusher.ARRIVALS_A_TURN
    assert came == sorted(came)
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_a_page_that_became_void_before_it_was_encoded_is_dropped(tail):
    hub = Hub(tail, tail, limits=dataclasses.replace(LIMITS, room_bytes=2**17))
    tail.append("g", *texts(5, 1, 3_000, size=200))  # far more than the ring holds
    late = await read(hub, TallyDialect())
    for _ in range(3):  # turns are full: the page comes, and is not encoded yet
        late.viewer.in_a_turn(lambda: time.sleep(2 * flusher.TURN_S))
    late.pull_all()
    replay = late.viewer._source.replay
    assert replay is not None
    head = replay._head
    await turns(1)
    assert head.page is not None
    keep = head.page.first_seq + 10
    assert head.seq < keep < head.page.last_seq
    kept = tail.log["g"][:keep]
    tail.log["g"] = kept
    tail.sinks["g"].rewound(Cursor(5, keep))
    tail.append("g", *texts(6, keep + 1, 400))
    await settle(late)
    assert witness_of(late).sums == {400: sums_of(tail.log["g"])[400]}
    await hub.aclose()
