"""A cluster as the benchmark starts it: the publisher finds the primary of each stream."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from bench.cluster import OursOnCluster
from bench.programs import build
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Streams
from tests.bench.answering import needs_a_compiler

STREAMS = 12


def test_events_reach_every_stream_of_a_cluster_whichever_primary_has_it(tmp_path: Path) -> None:
    needs_a_compiler()
    cluster = OursOnCluster(2)
    try:
        cluster.start_redis(tmp_path)
        target = cluster.publish_to("run", STREAMS)
        places = {line.partition("\t")[0] for line in Path(target[1]).read_text().splitlines()}
        words = ["--streams", str(STREAMS), "--rate", "0", "--count", str(3 * STREAMS)]
        published = subprocess.run(
            [build(tmp_path).publish, *target, *words], capture_output=True, text=True, check=False
        )
        seqs = asyncio.run(last_seqs(cluster.redis_url))
    finally:
        cluster.stop()
    assert (published.returncode, published.stderr) == (0, "")
    assert places == {"@0", "@1"}
    assert seqs == [3] * STREAMS


async def last_seqs(url: str) -> list[int]:
    async with LogConnection(url) as connection:
        tails = await Streams(connection).tails([f"run-{number}" for number in range(STREAMS)])
    return [0 if tail.last is None else tail.last.seq for tail in tails]
