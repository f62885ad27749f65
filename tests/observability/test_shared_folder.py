"""Several processes, one scrape: their counts are added, and those of processes that have ended stay."""

from __future__ import annotations

import resource
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from broadcaster.observability.counting import Buckets, Reading
from broadcaster.observability.exposition import expose
from broadcaster.observability.shared_folder import SharedFolder, SharedWriter
from tests.support.descriptors import no_free_descriptor
from tests.support.scraping import PLAIN, Scraped, parse_plain


def readings(*, deliveries: int, viewers: int = 1, steady: int = 1, lag_s: float = 0.0003) -> Iterable[Reading]:
    lag = Buckets((0.001, 1.0))
    lag.observe(lag_s)
    return [
        Reading("broadcaster_deliveries_total", deliveries, ("live",)),
        Reading("broadcaster_viewers", viewers, ("native",)),
        Reading("broadcaster_redis_steady", steady),
        Reading("broadcaster_redis_steady_processes", steady),
        Reading("broadcaster_queue_depth", 7, ("waiting",)),
        Reading("broadcaster_delivery_lag_seconds", lag),
    ]


def redis_breaks(breaks: int) -> Iterable[Reading]:
    return [Reading("broadcaster_redis_breaks_total", breaks)]


@contextmanager
def no_file_larger_than(size_bytes: int) -> Iterator[None]:
    """While the block runs, no file can be written beyond this size, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def write(folder: SharedFolder, pid: int, **values: Any) -> None:
    """What a process wrote that has closed its files, or was killed."""
    writer = SharedWriter(folder.path, pid=pid)
    writer.write(readings(**values))
    writer.close()


async def scraped(folder: SharedFolder) -> Scraped:
    text, _ = await expose(folder.collect(), accept=PLAIN)
    return parse_plain(text.decode())


async def test_counters_and_histograms_are_added_and_gauges_are_merged_each_in_its_way() -> None:
    with SharedFolder.open() as folder:
        write(folder, 11, deliveries=3, viewers=2)
        write(folder, 111, deliveries=4, viewers=5, steady=0, lag_s=0.5)
        now = await scraped(folder)
    assert now.value("broadcaster_deliveries_total", path="live") == 7
    assert now.value("broadcaster_viewers") == 7
    assert now.value("broadcaster_redis_steady") == 0  # the least
    assert now.value("broadcaster_redis_steady_processes") == 1
    assert now.value("broadcaster_queue_depth") == 7  # both read the same queue
    assert now.value("broadcaster_delivery_lag_seconds_bucket", le="0.001") == 1
    assert now.value("broadcaster_delivery_lag_seconds_count") == 2
    assert not folder.path.exists()


async def test_a_gauge_that_is_read_no_more_goes_and_comes_back_with_its_value() -> None:
    depth = Reading("broadcaster_queue_depth", 7, ("waiting",))
    others = [each for each in readings(deliveries=3) if each.metric != depth.metric]
    with SharedFolder.open() as folder:
        writer = SharedWriter(folder.path, pid=11)
        writer.write([*others, depth, Reading("broadcaster_build_info", 1, ("1", "3"))])
        writer.write([Reading("broadcaster_build_info", 1, ("1", "3"))])  # Redis is away
        away = await scraped(folder)
        writer.write([*others, depth])
        back = await scraped(folder)
        writer.close()
    assert "broadcaster_queue_depth" not in {name for name, _ in away.samples}
    assert away.value("broadcaster_deliveries_total", path="live") == 3
    assert away.value("broadcaster_build_info") == 1
    assert back.value("broadcaster_queue_depth") == 7


async def test_of_a_process_that_has_ended_the_counts_stay_and_the_gauges_go() -> None:
    with SharedFolder.open() as folder:
        write(folder, 111, deliveries=4)
        for pid in range(11, 16):  # restarted repeatedly
            write(folder, pid, deliveries=3, viewers=2, steady=0)
            folder.settle(pid)
        now = await scraped(folder)
        files = sorted(path.name for path in folder.path.iterdir())
    assert now.value("broadcaster_deliveries_total") == 4 + 5 * 3
    assert now.value("broadcaster_delivery_lag_seconds_count") == 6
    assert now.value("broadcaster_viewers") == 1
    assert now.value("broadcaster_redis_steady") == 1
    assert [name for name in files if not name.endswith("_111.db")] == ["counter_0.db", "histogram_0.db"]


async def test_a_later_write_replaces_the_earlier_one() -> None:
    with SharedFolder.open() as folder:
        writer = SharedWriter(folder.path, pid=11)
        for deliveries in (1, 5, 9):
            writer.write(readings(deliveries=deliveries, viewers=deliveries))
        writer.close()
        now = await scraped(folder)
    assert now.value("broadcaster_deliveries_total") == now.value("broadcaster_viewers") == 9


async def test_a_file_that_was_torn_by_a_kill_costs_no_other_counts() -> None:
    with SharedFolder.open() as folder:
        write(folder, 11, deliveries=3)
        (folder.path / "counter_12.db").write_bytes(b"\xff\x00\x00\x00" + b"\x00" * 60)
        folder.settle(12)
        now = await scraped(folder)
    assert now.value("broadcaster_deliveries_total") == 3


def test_the_counts_of_a_process_are_in_files_without_holes() -> None:
    """With a full disk, a write into a hole of a mapped file ends its process: SIGBUS."""
    with SharedFolder.open() as folder:
        write(folder, 11, deliveries=3)
        for path in folder.path.iterdir():
            assert path.stat().st_blocks * 512 >= path.stat().st_size


async def test_counts_that_the_disk_has_no_space_for_are_written_when_it_has() -> None:
    with SharedFolder.open() as folder, structlog.testing.capture_logs() as lines:
        writer = SharedWriter(folder.path, pid=11)
        writer.write(readings(deliveries=1))
        size_bytes = (folder.path / "counter_11.db").stat().st_size
        with no_file_larger_than(size_bytes):
            writer.write([*redis_breaks(3), *readings(deliveries=2)])
            writer.write([*redis_breaks(4), *readings(deliveries=3)])
        assert [line["event"] for line in lines] == ["metrics_not_written"]
        assert (await scraped(folder)).value("broadcaster_deliveries_total") == 3  # it has its space
        writer.write([*readings(deliveries=4), *redis_breaks(4)])
        writer.close()
        now = await scraped(folder)
    assert now.value("broadcaster_deliveries_total") == 4
    assert now.value("broadcaster_redis_breaks_total") == 4


async def test_a_process_that_ends_while_its_parent_has_no_free_descriptor_is_counted_at_the_next_end() -> None:
    with SharedFolder.open() as folder:
        for pid in (11, 12):
            write(folder, pid, deliveries=pid)
        with no_free_descriptor():
            folder.settle(11)
        folder.settle(12)
        now = await scraped(folder)
        files = {path.name for path in folder.path.iterdir()}
    assert now.value("broadcaster_deliveries_total") == 23
    assert files == {"counter_0.db", "histogram_0.db"}


async def test_a_process_that_ends_while_the_disk_is_full_is_counted_once() -> None:
    with SharedFolder.open() as folder:
        for pid in (11, 12):
            write(folder, pid, deliveries=pid)
        size_bytes = (folder.path / "counter_11.db").stat().st_size
        with no_file_larger_than(size_bytes):  # there is space for the counters, and none for the histogram
            folder.settle(11)
        folder.settle(12)
        now = await scraped(folder)
    assert now.value("broadcaster_deliveries_total") == 23
    assert now.value("broadcaster_delivery_lag_seconds_count") == 2


def test_the_folder_is_for_its_owner_alone() -> None:
    with SharedFolder.open() as folder:
        assert Path(folder.path).stat().st_mode & 0o077 == 0
