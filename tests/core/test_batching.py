"""The batcher, against a model of the log that loses answers, entries and everything."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from broadcaster.core.batching import MAX_RESENDS, AppendReply, Batch, Batcher, Code, Next, StopRequest


class ModelLog:
    """Protocol §3 for one stream, in a list."""

    def __init__(self, before: int = 0) -> None:
        self.entries: list[tuple[int, bytes]] = [(1, b"before")] * before
        self.granted = 0

    def append(self, epoch: int, batch: Batch) -> AppendReply:
        if batch.bytes_before is not None and len(self.entries) >= batch.first_seq - 1:
            assert batch.bytes_before == sum(len(event) for _, event in self.entries[: batch.first_seq - 1])
        last_epoch, last_seq = (self.entries[-1][0] if self.entries else 0), len(self.entries)
        if epoch < max(self.granted, last_epoch):
            return AppendReply(Code.FENCED, last_epoch, last_seq, StopRequest.NONE)
        if epoch == last_epoch and batch.last_seq <= last_seq:
            return AppendReply(Code.DUPLICATE, last_epoch, last_seq, StopRequest.NONE)
        if batch.first_seq > last_seq + 1 or (epoch != last_epoch and batch.first_seq <= last_seq):
            return AppendReply(Code.REWOUND, last_epoch, last_seq, StopRequest.NONE)
        self.entries += [(epoch, event) for event in batch.events[last_seq - batch.first_seq + 1 :]]
        return AppendReply(Code.APPENDED, epoch, len(self.entries), StopRequest.NONE)


def recover(batcher: Batcher, log: ModelLog, step: Next) -> None:
    if step is Next.REBASE or (step is Next.RESTORE and batcher.base_seq > 0):
        log.granted = batcher.epoch + 1
        log.entries.append((log.granted, b"attempt"))
        batcher.rebase(epoch=log.granted, base_seq=len(log.entries))


faults = st.sampled_from(["push", "push", "push", "send", "send", "lose answer", "lose call", "lose tail"])


@settings(max_examples=400, deadline=None)
@given(before=st.integers(0, 3), plan=st.lists(st.tuples(faults, st.integers(1, 4)), max_size=40))
def test_whatever_is_lost_the_log_ends_dense_and_holds_every_event_once_in_order(
    before: int, plan: list[tuple[str, int]]
) -> None:
    log, written = ModelLog(before), 0
    batcher = Batcher(epoch=10, base_seq=before)
    for fault, count in plan:
        if fault == "push":
            batcher.push(b"%d" % n for n in range(written, written + count))
            written += count
        elif fault == "lose tail":
            del log.entries[max(0, len(log.entries) - count) :]
        elif (batch := batcher.take()) is not None:
            if fault != "lose call":
                answer = log.append(batcher.epoch, batch)
            if fault == "send":
                recover(batcher, log, batcher.replied(answer))
            else:
                batcher.failed()
        batcher._resends = 0  # the bound has a test of its own
    while (batch := batcher.take(verify=not batcher.is_acknowledged)) is not None:
        recover(batcher, log, batcher.replied(log.append(batcher.epoch, batch)))
        batcher._resends = 0
    verify = batcher.take(verify=True)
    assert verify is not None
    step = batcher.replied(log.append(batcher.epoch, verify))
    while step is not Next.GO_ON or not batcher.is_acknowledged:
        recover(batcher, log, step)
        batcher._resends = 0
        batch = batcher.take(verify=True)
        assert batch is not None
        step = batcher.replied(log.append(batcher.epoch, batch))
    mine = [event for epoch, event in log.entries if event not in (b"before", b"attempt")]
    assert mine == [b"%d" % n for n in range(written)]


def test_while_an_append_is_in_flight_events_join_the_next() -> None:
    batcher = Batcher(epoch=1, base_seq=0)
    batcher.push([b"a"])
    assert batcher.take() == (1, [b"a"], 0)
    batcher.push([b"b"])
    batcher.push([b"c"])
    assert batcher.take() is None
    assert batcher.replied(AppendReply(Code.APPENDED, 1, 1, StopRequest.NONE)) is Next.GO_ON
    assert batcher.take() == (2, [b"b", b"c"], 1)


def test_a_failed_append_is_offered_once_more_unchanged() -> None:
    batcher = Batcher(epoch=1, base_seq=0)
    batcher.push([b"a"])
    batcher.take()
    batcher.push([b"b"])
    batcher.failed()
    assert batcher.take() == (1, [b"a", b"b"], 0)


def test_a_forgotten_grant_is_restored_and_the_same_batch_offered_once_more() -> None:
    batcher = Batcher(epoch=1, base_seq=3)
    batcher.push([b"a"])
    for _ in range(2 * MAX_RESENDS):  # it costs no re-send
        assert batcher.take() == (4, [b"a"], None)
        assert batcher.replied(AppendReply(Code.FORGOTTEN, 1, 3, StopRequest.NONE)) is Next.REMIND


def test_a_log_that_loses_the_same_tail_too_often_is_given_up() -> None:
    batcher = Batcher(epoch=1, base_seq=0)
    batcher.push([b"a", b"b"])
    batcher.take()
    batcher.replied(AppendReply(Code.APPENDED, 1, 2, StopRequest.NONE))
    steps = []
    for _ in range(MAX_RESENDS + 1):
        batcher.take(verify=True)
        steps.append(batcher.replied(AppendReply(Code.REWOUND, 1, 1, StopRequest.NONE)))
        if steps[-1] is Next.GO_ON:
            batcher.take()
            batcher.replied(AppendReply(Code.APPENDED, 1, 2, StopRequest.NONE))
    assert steps == [Next.GO_ON] * MAX_RESENDS + [Next.GIVE_UP]


def test_progress_beyond_the_lost_tail_forgives_earlier_losses() -> None:
    batcher = Batcher(epoch=1, base_seq=0)
    for seq in range(1, 3 * MAX_RESENDS):
        batcher.push([b"x"])
        batcher.take()
        assert batcher.replied(AppendReply(Code.APPENDED, 1, seq, StopRequest.NONE)) is Next.GO_ON
        batcher.take(verify=True)
        assert batcher.replied(AppendReply(Code.REWOUND, 1, seq - 1, StopRequest.NONE)) in (Next.GO_ON, Next.RESTORE)
        batcher.take()
        batcher.replied(AppendReply(Code.APPENDED, 1, seq, StopRequest.NONE))


def test_a_full_stream_drops_what_was_refused_and_numbers_the_error_behind_the_last_entry() -> None:
    batcher = Batcher(epoch=1, base_seq=5)
    batcher.push([b"a", b"b"])
    batcher.take()
    assert batcher.replied(AppendReply(Code.FULL, 1, 5, StopRequest.NONE)) is Next.FULL
    batcher.push([b"error"])
    assert batcher.take() == (6, [b"error"], None)


def test_a_stream_that_is_fenced_or_closed_is_lost_to_its_batcher() -> None:
    for code in (Code.FENCED, Code.CLOSED):
        batcher = Batcher(epoch=1, base_seq=0)
        batcher.push([b"a"])
        batcher.take()
        assert batcher.replied(AppendReply(code, 2, 1, StopRequest.NONE)) is Next.LOST
