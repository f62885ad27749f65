"""What hostile providers cost a real worker: ``python -m tests.attacks.floods.provider_floods [CODE]``.

CODE is a checkout of another version. For each attack: how the answer ended, on which attempt, after how long, how much
the worker's memory grew at its peak, and its CPU. A worker beyond KILL_BYTES is killed, as a container's limit would.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from broadcaster.client import AsyncClient
from broadcaster.log.redis.embedded import EmbeddedServer
from broadcaster.testing import ScriptedProvider
from tests.attacks.floods.hostile_provider import GZIP_BYTES, HostileProvider, gzip_of, hostile_provider
from tests.support.servers.processes import Stack, open_stack

ATTACKS: Final = (
    *("endless-error", "slow-error", "gzip-error", "gzip-stream"),
    *("comments", "slow-comments", "interim", "fields", "short-lines", "values"),
)
KILL_BYTES: Final = 1_000_000_000
MOST_S: Final = 30.0
_SILENCE_S: Final = 5
_POLL_S: Final = 0.02
_HEAD: Final = "| attack | end | attempt | after | memory | CPU | worker |\n|---|---|---|---|---|---|---|\n"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


async def measure(attack: str, stack: Stack, front_end_url: str) -> str:
    """One attack on a worker of its own, as a row."""
    worker = await stack.worker()
    try:
        async with AsyncClient(front_end_url) as client:
            await client.get((await client.start("hi", model="warm")).id, wait_s=20)  # imports the SDK
            before_bytes, before_s = _usage(worker.pid)
            peak_bytes, cpu_s, fate = before_bytes, before_s, "lives"
            loop = asyncio.get_running_loop()
            begun_at = loop.time()
            generation = await client.start("hi", model=attack)
            ended = asyncio.create_task(client.get(generation.id, wait_s=MOST_S))
            while not ended.done():
                await asyncio.sleep(_POLL_S)
                with suppress(FileNotFoundError, ProcessLookupError, IndexError):
                    used_bytes, cpu_s = _usage(worker.pid)
                    peak_bytes = max(peak_bytes, used_bytes)
                if peak_bytes > KILL_BYTES and worker.process.returncode is None:
                    fate = "killed"
                    await worker.kill()
                    break
            took_s = loop.time() - begun_at
            ended.cancel() if fate == "killed" else await ended
            final = await client.get(generation.id)
            if not final.is_over:
                await client.stop(generation.id)
        code = final.error.code if final.error is not None else final.status
    finally:
        await worker.end()
    grown_mb = (peak_bytes - before_bytes) / 2**20
    cells = (attack, code, final.attempt, f"{took_s:.1f} s", f"{grown_mb:.0f} MB", f"{cpu_s - before_s:.1f} s", fate)
    return f"| {' | '.join(map(str, cells))} |"


def _usage(pid: int) -> tuple[int, float]:
    """Resident memory in bytes, and CPU in seconds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return pages * os.sysconf("SC_PAGE_SIZE"), (int(fields[11]) + int(fields[12])) / _TICKS


def _settings(evil: HostileProvider, good: ScriptedProvider) -> dict[str, object]:
    providers = {"evil": {"wire": "openai", "base_url": f"{evil.base_url}/v1"}}
    providers["good"] = {"wire": "openai", "base_url": good.openai_base_url}
    return {
        "providers": json.dumps(providers),
        "routes": json.dumps({"warm": "good", "*": "evil"}),
        "default_model": "warm",
        "provider_timeout_s": _SILENCE_S,
        "provider_retries": 0,
    }


async def main(code: Path | None) -> None:
    """Print a table."""
    gzip_of(GZIP_BYTES)  # takes seconds, in which the provider would be silent
    with tempfile.TemporaryDirectory() as folder:
        redis = EmbeddedServer(Path(folder) / "redis")
        await redis.start()
        try:
            async with hostile_provider() as evil, ScriptedProvider() as good:
                settings = _settings(evil, good)
                async with open_stack(
                    Path(folder), redis_url=redis.url, provider_url="http://127.0.0.1:9", **settings
                ) as opened:
                    stack = opened.of(code)
                    front_end = await stack.front_end()
                    sys.stdout.write(_HEAD)
                    for attack in ATTACKS:
                        sys.stdout.write(f"{await measure(attack, stack, front_end.url)}\n")
                        sys.stdout.flush()
        finally:
            await redis.stop()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else None))
