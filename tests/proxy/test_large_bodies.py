"""Bodies above the bound, through Caddy: refused by a front-end, which Caddy does not take for broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx2

from tests.deploy.caddy import caddy
from tests.support.servers.processes import Stack

DEADLINE_S: Final = 20.0
PIECE: Final = b"x" * 2**20
# More than the bound of 4 MiB.
PIECES: Final = 5
PATH: Final = "/v1/generations"


async def test_bodies_that_are_too_large_get_413_through_caddy_and_close_the_site_to_no_other_caller(
    tmp_path: Path, stack: Stack
) -> None:
    addresses = " ".join([urlsplit((await stack.front_end()).url).netloc for _ in range(2)])
    # A front-end that Caddy takes for broken stays so for the rest of the test.
    edits = {"fail_duration 5s": "fail_duration 1h"}
    async with (
        caddy(tmp_path, addresses, edits=edits) as url,
        httpx2.AsyncClient(base_url=url, trust_env=False, timeout=DEADLINE_S) as http,
    ):
        answers = [
            await http.post(PATH, content=body, headers={"content-type": "application/json"})
            for body in (PIECE * PIECES, in_pieces(), in_pieces())
        ]
        endless = await endless_answer(url)
        others = [(await http.post(PATH, json={})).status_code for _ in range(4)]
    assert others == [400] * 4  # read, and judged, by a front-end
    assert [(each.status_code, each.json()["code"]) for each in answers] == [(413, "body_too_large")] * len(answers)
    assert endless.startswith(b"HTTP/1.1 413 ")


async def in_pieces() -> AsyncIterator[bytes]:
    """A body whose length is not announced."""
    for _ in range(PIECES):
        yield PIECE


async def endless_answer(url: str) -> bytes:
    """The first line of the answer to a client that never stops to send, and that is disconnected for it."""
    host = urlsplit(url)
    reader, writer = await asyncio.open_connection(host.hostname, host.port)
    writer.write(
        f"POST {PATH} HTTP/1.1\r\nHost: {host.netloc}\r\ncontent-type: application/json\r\n"
        "transfer-encoding: chunked\r\n\r\n".encode()
    )
    answering = asyncio.create_task(reader.readline())
    try:
        async with asyncio.timeout(DEADLINE_S):
            while True:
                writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
                await writer.drain()
    except ConnectionError:
        return await answering
    finally:
        writer.close()
