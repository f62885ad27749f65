"""Programs without an event loop: Celery, RQ, Django, threads, scripts.

from broadcaster import sync

publisher = sync.Publisher.from_url("redis://localhost:6379")  # a job's progress, event by event
with publisher.feed("job-42") as feed:
    feed.progress(3, 10, "rendering")

broadcaster = sync.BlockingBroadcaster.from_url("redis://localhost:6379")  # whole answers, reading, generations
result = broadcaster.publish(tokens())
"""

from broadcaster.sync.broadcaster import BlockingBroadcaster
from broadcaster.sync.feed import Feed
from broadcaster.sync.publisher import Publisher

__all__ = ["BlockingBroadcaster", "Feed", "Publisher"]
