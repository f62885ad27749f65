"""Viewer tokens from the command, the clients and the library; documented backends in two languages."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from broadcaster import Broadcaster
from broadcaster.cli.main import create_app
from broadcaster.client import AsyncClient, ClientError
from broadcaster.errors import InvalidInput, TokensOff
from tests.support.access import token_kit as kit
from tests.support.servers.processes import Running, Stack
from tests.support.servers.programs import find_program

KEY, WATCHER = "key-of-the-backend-7f3a", "key-of-a-watcher-7f3a"
DEADLINE_S = 20.0
KEYED = {
    "auth": "keys",
    "host": "0.0.0.0",
    "api_keys": json.dumps({"web": [KEY, {"key": WATCHER, "rights": ["watch"]}]}),
    "token_keys": kit.TOKEN_KEYS,
    "token_issuers": kit.issuers(),
}
DOCUMENT = Path(__file__).parents[2] / "docs" / "tokens.md"

app = create_app(["token"])


@pytest.fixture
async def front_end(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Running:
    running = await stack.front_end(**KEYED)
    monkeypatch.setenv("BROADCASTER_URL", running.url)
    monkeypatch.setenv("BROADCASTER_API_KEY", KEY)
    async with AsyncClient(running.url, KEY) as client:
        for stream in ("job", "revoke", "other"):
            await client.create_stream(stream)
            await client.close(stream)
    return running


async def command(*arguments: str, exit_code: int = 0) -> str:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["token", *arguments])
    assert result.exit_code == exit_code, result.output
    return result.output.strip()


async def statuses(front_end: Running, token: str, streams: Sequence[str] = ("job", "other")) -> list[int]:
    """How the front-end answers to this token, for each stream."""
    async with httpx2.AsyncClient(base_url=front_end.url, timeout=DEADLINE_S) as client:
        return [
            (await client.get(f"/v1/streams/{stream}/events", params={"token": token})).status_code
            for stream in streams
        ]


async def until_refused(front_end: Running, token: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while await statuses(front_end, token, ["job"]) != [401]:
            await asyncio.sleep(0.02)


async def test_the_command_makes_a_token_and_revokes_it(front_end: Running) -> None:
    text = await command("job")
    assert await statuses(front_end, text) == [200, 403]
    made = json.loads(await command("job", "--watch", "--append", "--ttl", "60", "--sub", "ann", "--json"))
    assert made["events_url"].endswith(made["token"])
    assert re.fullmatch("[0-9a-f]{32}", made["jti"])  # an argument of a command: never an option
    assert 50 < made["expires_at"] - time.time() <= 60
    prefix = await command("create", "revoke", "--prefix")
    assert await statuses(front_end, prefix, ["revoke", "job"]) == [200, 403]
    await command("revoke", made["jti"])
    await until_refused(front_end, made["token"])
    second = json.loads(await command("job", "--sub", "bob", "--json"))["token"]
    await command("revoke", "--sub", "bob")
    await until_refused(front_end, second)
    assert await statuses(front_end, text, ["job"]) == [200]
    for arguments in (["revoke"], ["revoke", "a", "--sub", "b"]):
        assert "either" in await command(*arguments, exit_code=2)


async def test_the_client_makes_no_token_beyond_its_key(front_end: Running) -> None:
    async with AsyncClient(front_end.url, WATCHER) as client:
        made = await client.create_token("job", ttl_s=60, sub="ann")
        assert await statuses(front_end, made.token) == [200, 403]
        with pytest.raises(ClientError) as refused:
            await client.create_token("job", actions=["watch", "stop"])
        assert refused.value.code == "forbidden"
    async with AsyncClient(front_end.url, made.token) as holder:
        with pytest.raises(ClientError) as refused:
            await holder.create_token("job")
        assert refused.value.code == "forbidden"


async def test_the_library_signs_tokens_itself(front_end: Running, stack: Stack) -> None:
    url = stack.environment["BROADCASTER_REDIS_URL"]
    keyed = Broadcaster.from_url(url, tenant="web", auth="keys", token_keys=kit.TOKEN_KEYS)
    made = keyed.create_token("job", sub="ann")
    assert made.events_url == f"/v1/streams/job/events?token={made.token}"
    assert await statuses(front_end, made.token) == [200, 403]
    of_other = Broadcaster.from_url(url, tenant="other", auth="keys", token_keys=kit.TOKEN_KEYS)
    assert await statuses(front_end, of_other.create_token("job").token, ["job"]) == [404]
    with pytest.raises(InvalidInput, match="actions"):
        keyed.create_token("job", actions=["start"])
    with pytest.raises(TokensOff):
        Broadcaster.from_url(url).create_token("job")


def example(language: str, holding: str) -> str:
    """The block of docs/tokens.md in this language that holds this text."""
    blocks = re.findall(rf"```{language}\n(.*?)```", DOCUMENT.read_text("utf-8"), re.DOTALL)
    (found,) = [block for block in blocks if holding in block]
    return str(found)


@pytest.mark.parametrize("language", ["python", "js"])
async def test_a_backend_that_follows_the_document_mints_tokens_that_count(
    front_end: Running, language: str, tmp_path: Path
) -> None:
    pem = kit.private_key("EdDSA").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    if language == "python":
        names: dict[str, Any] = {}
        exec(compile(example("python", "def viewer_token"), "tokens.md", "exec"), names)
        text = names["viewer_token"](pem, "job", "user-7")
    else:
        program = tmp_path / "mint.mjs"
        call = f"console.log(viewerToken({json.dumps(pem)}, 'job', 'user-7'));"
        program.write_text(f"{example('js', 'function viewerToken')}\n{call}\n")
        node = find_program("node", remedy="install Node")
        text = (await asyncio.to_thread(lambda: subprocess.check_output([node, program], text=True))).strip()
    assert await statuses(front_end, text) == [200, 403]
