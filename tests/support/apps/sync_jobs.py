"""Programs that publish without an event loop, each as its own process.

python -m tests.support.apps.sync_jobs NAME URL STREAM
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

from broadcaster import sync


def ends_without_closing(url: str, stream_id: str) -> None:
    """A short script: the first connection is made while the interpreter is ending."""
    feed = sync.Publisher.from_url(url, timeout_s=20.0).feed(stream_id)
    for number in range(300):
        feed.data("n", number)


def fails(url: str, stream_id: str) -> None:
    """An exception that is not caught."""
    with sync.Publisher.from_url(url, timeout_s=20.0).feed(stream_id) as feed:
        feed.data("n", 0)
        raise RuntimeError("the job failed")


def ends_while_redis_is_away(url: str, stream_id: str) -> None:
    """Redis is not there."""
    feed = sync.Publisher.from_url(url, timeout_s=0.5).feed(stream_id)
    feed.data("n", 0)


def has_left_while_redis_is_away(url: str, stream_id: str) -> None:
    """Redis is not there, and the block is left in good order."""
    with sync.Publisher.from_url(url, timeout_s=0.5).feed(stream_id) as feed:
        feed.data("n", 0)


def goes_on(url: str, stream_id: str) -> None:
    """Until it is killed."""
    feed = sync.Publisher.from_url(url).feed(stream_id)
    number = 0
    while True:
        feed.data("n", number)
        number += 1
        if number % 50 == 0:
            feed.flush()
            print(number, flush=True)
        time.sleep(0.0005)


def forks(url: str, stream_id: str) -> None:
    """Parent and children on one publisher and one feed, forked in the middle of its block."""
    publisher = sync.Publisher.from_url(url, timeout_s=20.0)
    with publisher.feed(stream_id) as feed:
        for number in range(100):
            feed.data("n", ["parent", number])
        children = []
        for child in range(3):
            pid = os.fork()
            if pid == 0:
                for number in range(100):
                    feed.data("n", [f"child-{child}", number])
                with publisher.feed(f"{stream_id}-{child}") as own:
                    own.data("n", child)
                # As a child of the interpreter ends: its handlers run.
                sys.exit(0) if child else _leave(feed)
            children.append(pid)
        for number in range(100, 200):
            feed.data("n", ["parent", number])
        codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
        for number in range(200, 300):
            feed.data("n", ["parent", number])
    print(codes)


def _leave(feed: sync.Feed) -> None:
    """End as a child of a pre-forking server does, without the interpreter's handlers."""
    feed.flush()
    os._exit(0)


def runs_children(url: str, stream_id: str) -> None:
    """A pool of forked processes, whose parent has published before."""
    publisher = sync.Publisher.from_url(url, timeout_s=20.0)
    with publisher.feed(stream_id) as feed:
        feed.data("n", "parent")
        feed.flush()
        context = multiprocessing.get_context("fork")
        workers = [context.Process(target=_work, args=(publisher, f"{stream_id}-{n}")) for n in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        feed.data("n", "parent again")


def _work(publisher: sync.Publisher, stream_id: str) -> None:
    with publisher.feed(stream_id) as feed:
        for number in range(50):
            feed.data("n", number)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
