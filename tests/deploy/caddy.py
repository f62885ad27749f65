"""A Caddy with the Caddyfile of deploy/."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2

from tests.deploy.files import DEPLOY
from tests.deploy.test_files import CADDY
from tests.support.servers.ports import free_port
from tests.support.servers.programs import find_program


@asynccontextmanager
async def caddy(folder: Path, front_ends: str, *, edits: Mapping[str, str] | None = None) -> AsyncIterator[str]:
    """The URL of a Caddy with the Caddyfile of deploy/, without TLS, before these front-ends.

    ``edits``: text of the file, and what it is replaced by.
    """
    port = free_port()
    (folder / "home").mkdir()
    # Its own control port is fixed (2019): switched off, so that tests may run beside each other.
    text = (DEPLOY / "caddy" / "Caddyfile").read_text().replace("{\n", "{\n\tadmin off\n", 1)
    for before, after in (edits or {}).items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    (folder / "Caddyfile").write_text(text)
    with (folder / "caddy.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(
                find_program("caddy", remedy=CADDY),
                "run",
                "--adapter",
                "caddyfile",
                "--config",
                str(folder / "Caddyfile"),
            ),
            env={
                "HOME": str(folder / "home"),
                "PATH": os.environ["PATH"],
                "SITE": f"http://127.0.0.1:{port}",
                "FRONT_ENDS": front_ends,
            },
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(30), httpx2.AsyncClient() as client:
            while True:
                try:
                    await client.get(f"http://127.0.0.1:{port}/metrics")
                    break
                except httpx2.TransportError:
                    await asyncio.sleep(0.02)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()
