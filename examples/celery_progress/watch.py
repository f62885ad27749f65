"""Enqueue the task and watch it: what a web request would start, and what the page behind it would show.

    python -m examples.celery_progress.watch [FILM] [FRAMES]

It ends with 0 when the task ended well, else with 1.
"""

from __future__ import annotations

import asyncio
import sys

from broadcaster import Broadcaster
from broadcaster.client import EntryReceived, GapReceived, Notice
from broadcaster.core.events import Error
from examples.celery_progress.tasks import REDIS_URL, render


async def watch(task_id: str) -> bool:
    """Print what the task reports until it has ended; whether it ended well."""
    async with Broadcaster.from_url(REDIS_URL) as broadcaster:
        # `wait_s`: the feed begins with the task, and the task may wait for a worker.
        async for received in broadcaster.events(task_id, wait_s=60, notices=True):
            match received:
                case EntryReceived(type="data-progress", data=at):
                    print(f"{at['done']:>4}/{at['total']}  {at['message']}")
                case EntryReceived(type="data-result", data=result):
                    print(f"result     {result['url']}")
                case EntryReceived(type="data-dropped", data=lost):
                    print(f"dropped    {lost['events']} events, while Redis was away")
                case EntryReceived(type="finish"):
                    print("finished")
                    return True
                case EntryReceived(event=Error(code=code, error_text=text)):
                    print(f"failed     {code}: {text}")
                case Notice(name="hub.stalled", data={"reason": reason}):
                    print(f"stalled    {reason}")  # worker_lost, or log_unavailable
                case GapReceived(first_seq=first, last_seq=last):
                    print(f"gap        {first} to {last} are gone")
    return False


def main(film: str = "sunrise", frames: str = "30") -> None:
    task_id = render.delay(film, int(frames)).id
    print(f"task {task_id}")
    sys.exit(0 if asyncio.run(watch(task_id)) else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
