"""What the head of a request already refuses is refused while the body is still on its way."""

from __future__ import annotations

import asyncio
import json

import httpx2
import pytest

from broadcaster.settings import Settings
from broadcaster.web.services import Services
from tests.support.servers.front_end import DEADLINE_S, own_app, served

KEY = "the-key-of-a-tenant-0"
KEYED = Settings.model_validate({"auth": "keys", "api_keys": json.dumps({"local": [KEY]})})
JSON = b"content-type: application/json\r\n"
LENGTH = b"content-length: 4194303\r\n"
HALF = b'{"a":[' + b"{}," * 700_000

REFUSALS: dict[str, tuple[Settings, bytes, bytes, int]] = {
    "no key": (KEYED, b"POST /v1/generations", b"host: h\r\n" + JSON + LENGTH, 401),
    "a wrong key": (KEYED, b"POST /v1/messages", b"host: h\r\nx-api-key: none\r\n" + JSON + LENGTH, 401),
    "another host": (Settings(), b"POST /v1/generations", b"host: evil.example\r\n" + JSON + LENGTH, 403),
    "another origin": (
        Settings(),
        b"PUT /v1/streams/job",
        b"host: localhost\r\norigin: https://evil.example\r\n" + JSON + LENGTH,
        403,
    ),
    "no such path": (Settings(), b"POST /v1/nothing", b"host: localhost\r\n" + JSON + LENGTH, 404),
    "no such method": (Settings(), b"PATCH /v1/generations", b"host: localhost\r\n" + JSON + LENGTH, 405),
    "too large": (Settings(), b"POST /agui", b"host: localhost\r\ncontent-length: 99999999999\r\n" + JSON, 413),
    "no JSON": (Settings(), b"POST /api/chat", b"host: localhost\r\ncontent-type: text/plain\r\n" + LENGTH, 415),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_request_is_refused_by_its_head_while_half_of_the_body_is_on_its_way(
    services: Services, name: str
) -> None:
    settings, line, headers, status = REFUSALS[name]
    async with served(own_app(services, settings), services) as client:
        assert await answer_to_half(client, line + b" HTTP/1.1\r\n" + headers + b"\r\n" + HALF) == status


async def answer_to_half(client: httpx2.AsyncClient, request: bytes) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
    try:
        writer.write(request)
        async with asyncio.timeout(DEADLINE_S):
            return int((await reader.readuntil(b"\r\n")).split(b" ")[1])
    finally:
        writer.close()
