"""Enqueue the job and watch it: what a web request would start, and what the page behind it would show.

    python -m examples.rq_progress.watch [TABLE] [ROWS]

It ends with 0 when the job ended well, else with 1.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Final

from redis import Redis
from rq import Queue
from rq.job import Job

from broadcaster.client import EntryReceived
from broadcaster.sync import BlockingBroadcaster
from examples.rq_progress.jobs import load

REDIS_URL: Final = os.environ["BROADCASTER_REDIS_URL"]
SECONDS_PER_LOOKUP: Final = 0.1


def feed_of(job: Job) -> str:
    """The feed of the job's newest run. The first run may have to wait for a worker."""
    while "feed" not in job.get_meta():
        time.sleep(SECONDS_PER_LOOKUP)
    return str(job.meta["feed"])


def watch(job: Job) -> bool:
    """Print what the job's newest run reports until it has ended; whether it ended well."""
    feed_id = feed_of(job)
    with BlockingBroadcaster.from_url(REDIS_URL) as broadcaster:
        # `wait_s`: the job names its feed before it begins it.
        for received in broadcaster.events(feed_id, wait_s=5):
            match received:
                case EntryReceived(type="data-progress", data=at):
                    print(f"{at['done']:>4}/{at['total']}  {at['message']}")
        end = broadcaster.read(feed_id)
    print(end.status if end.error is None else f"{end.status}: {end.error['code']}")
    return end.status == "finished"


if __name__ == "__main__":
    table, rows = (sys.argv[1:] + ["orders", "30"][len(sys.argv) - 1 :])[:2]
    job = Queue("progress", connection=Redis.from_url(REDIS_URL)).enqueue(load, table, int(rows))
    print(f"job {job.id}")
    sys.exit(0 if watch(job) else 1)
