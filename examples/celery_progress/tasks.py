"""A Celery task that reports its progress live, to any number of viewers; they also learn when its worker dies.

    celery -A examples.celery_progress.tasks worker

Broker and progress share one Redis, the one at BROADCASTER_REDIS_URL.
"""

from __future__ import annotations

import os
import time
from typing import Any, Final

from celery import Celery
from celery.utils.log import get_task_logger

from broadcaster import sync

REDIS_URL: Final = os.environ["BROADCASTER_REDIS_URL"]
# What a frame costs; here it is only waited for.
SECONDS_PER_FRAME: Final = float(os.environ.get("SECONDS_PER_FRAME", "0.1"))
# Viewers learn of a killed worker after about so long. The publisher renews the lease every third of that by
# itself, whatever the task does meanwhile.
LEASE_S: Final = 5.0

# Celery and broadcaster have keys of their own. Celery writes the URL of a unix socket its own way.
app = Celery("celery_progress", broker=REDIS_URL.replace("unix://", "redis+socket://"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)

# One for the whole process. It connects at its first use, hence after the pool has forked, and any number of threads
# may use it. No call holds a task longer than `timeout_s`, whatever Redis does.
publisher = sync.Publisher.from_url(REDIS_URL, timeout_s=2.0)

log = get_task_logger(__name__)


@app.task(bind=True)
def render(task: Any, film: str, frames: int) -> None:
    """Render a film. Its progress is the feed that has the task's id, so that its caller can watch."""
    began = time.monotonic()
    with publisher.feed(task.request.id, lease_s=LEASE_S, metadata={"film": film}) as feed:
        for frame in range(1, frames + 1):
            time.sleep(SECONDS_PER_FRAME)
            feed.progress(frame, frames, f"frame {frame} of {film}")
        feed.data("result", {"url": f"/films/{film}.mp4"})
    # Left by an exception, the block would have ended the feed with `error`: no viewer waits for a task that failed.
    log.info("rendered %s in %.1f s", film, time.monotonic() - began)
