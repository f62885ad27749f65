"""What script calls that leave in one write cost their process: ours, beside redis-py's own pipeline.

    python -m bench.redis_calls

Starts an embedded server. Prints the CPU microseconds of a call, by how many leave together: the best of five turns.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import uvloop
from redis.asyncio import Redis

from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import EmbeddedServer
from broadcaster.log.redis.scripts import SCRIPTS, ScriptCall, run_all

TOGETHER = (1, 5, 20, 60)
CALLS = 3000
TURNS = 5


async def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="bc-") as folder:
        server = EmbeddedServer(Path(folder))
        await server.start()
        try:
            await measure(server.url)
        finally:
            await server.stop()


async def measure(url: str) -> None:
    """In turns, so that a machine that changes its speed changes both."""
    event = '{"type":"text-delta","id":"0","delta":"hello wo"}'
    async with LogConnection(url) as connection, Redis.from_url(url, protocol=2) as plain:
        for count in TOGETHER:
            calls = [
                ScriptCall(SCRIPTS["append_next"], (f"l{{{n}}}", f"m{{{n}}}", f"v{{{n}}}"), (1, 2, 1000, 1, event))
                for n in range(count)
            ]

            async def ours(calls: Sequence[ScriptCall] = calls) -> None:
                await run_all(connection.redis, calls)

            async def theirs(calls: Sequence[ScriptCall] = calls) -> None:
                pipeline = plain.pipeline(transaction=False)
                for each in calls:
                    pipeline.evalsha(each.script.sha, len(each.keys), *each.keys, *each.args)
                await pipeline.execute(raise_on_error=False)

            turns = [(await cost_us(ours, count), await cost_us(theirs, count)) for _ in range(TURNS)]
            least = [min(each) for each in zip(*turns, strict=True)]
            print(f"{count:3} together: ours {least[0]:6.1f} us a call, redis-py {least[1]:6.1f} us", flush=True)


async def cost_us(run: Callable[[], Awaitable[None]], count: int) -> float:
    """CPU of this process for each call."""
    times = CALLS // count
    await run()
    begun = time.process_time()
    for _ in range(times):
        await run()
    return (time.process_time() - begun) / times / count * 1e6


if __name__ == "__main__":
    uvloop.run(main())
