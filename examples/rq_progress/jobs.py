"""An RQ job that reports its progress live, to any number of viewers; they also learn when its worker dies.

    rq worker --url "$BROADCASTER_REDIS_URL" progress

Queue and progress share one Redis, the one at BROADCASTER_REDIS_URL.
"""

from __future__ import annotations

import os
import time
import uuid
from typing import Final

from rq import get_current_job

from broadcaster import sync

# What a row costs; here it is only waited for.
SECONDS_PER_ROW: Final = float(os.environ.get("SECONDS_PER_ROW", "0.1"))

# RQ runs each job in a forked child. The publisher connects at its first use, hence in the child.
publisher = sync.Publisher.from_url(os.environ["BROADCASTER_REDIS_URL"], timeout_s=2.0)


def load(table: str, rows: int) -> int:
    """Load a table. The job's ``meta`` names the feed of its progress, so that its caller can watch."""
    job = get_current_job()
    assert job is not None, "an RQ worker runs this"
    # A feed ends once, and RQ may run a job more than once (`Retry`, `rq requeue`): each run has a feed of its own.
    job.meta["feed"] = f"{job.id}.{uuid.uuid4().hex}"
    job.save_meta()
    with publisher.feed(job.meta["feed"], lease_s=5, metadata={"table": table}) as feed:
        for row in range(1, rows + 1):
            time.sleep(SECONDS_PER_ROW)
            feed.progress(row, rows, f"row {row} of {table}")
    return rows
