"""Feeds from programs without an event loop: Celery, RQ, Django, threads, scripts.

from broadcaster import sync

publisher = sync.Publisher.from_url("redis://localhost:6379")
with publisher.feed("job-42") as feed:
    feed.progress(3, 10, "rendering")
"""

from broadcaster.sync.feed import Feed
from broadcaster.sync.publisher import Publisher

__all__ = ["Feed", "Publisher"]
