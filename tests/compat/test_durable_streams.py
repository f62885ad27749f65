"""Durable Streams: the conformance suite against a front-end, but for what is not supported; the docs' program."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from broadcaster.log.redis.connect import LogConnection
from broadcaster.process.lifeline import die_with_parent
from tests.support.documents import ROOT
from tests.support.servers.processes import Running, open_stack
from tests.support.servers.programs import find_program, lacking

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(480)]

FOLDER: Final = Path(__file__).parent / "durable"
DOCUMENT: Final = ROOT / "docs" / "durable-streams.md"
UNSUPPORTED: Final = ("Fork - ", "Reserved subscription APIs ")
"""What the names of the groups begin with that are answered with 501; the suite leaves out the second by default."""
SETTINGS: Final = {"feed_append_rate": 10_000, "long_poll_timeout_s": 2, "cors_origins": "https://example.com"}
"""The suite waits 5 s for a long poll, and asks as a page of that origin."""
TEST_LIMIT_MS: Final = 60_000
"""Vitest gives a test 5 s, and some of the suite's tests send hundreds of requests: other programs run beside them."""


@pytest.fixture
async def front_end(connection: LogConnection, tmp_path: Path) -> AsyncIterator[Running]:
    async with open_stack(tmp_path, redis_url=connection.url, provider_url="", **SETTINGS) as stack:
        yield await stack.front_end()


async def run_suite(base_url: str, report: Path) -> list[dict[str, Any]]:
    """Every test of the suite, as vitest reports it."""
    if not (FOLDER / "node_modules").is_dir():
        lacking("the conformance suite is not installed: get it with `make durable`")
    node = find_program("node", remedy="install it, e.g. apt install nodejs npm")
    process = await asyncio.create_subprocess_exec(
        *(node, "node_modules/vitest/vitest.mjs", "run", "suite.test.mjs", "--no-coverage"),
        *("--reporter=json", f"--outputFile={report}", "--testNamePattern", f"^(?!{UNSUPPORTED[0]})"),
        f"--testTimeout={TEST_LIMIT_MS}",
        cwd=FOLDER,
        env={"CONFORMANCE_TEST_URL": base_url, "PATH": str(Path(node).parent), "HOME": str(report.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        preexec_fn=die_with_parent,
    )
    output, _ = await process.communicate()
    assert report.is_file(), output.decode(errors="replace")[-4000:]
    (file,) = json.loads(report.read_text("utf-8"))["testResults"]
    results: list[dict[str, Any]] = file["assertionResults"]
    return results


async def test_the_program_of_the_document_appends_a_message(front_end: Running, tmp_path: Path) -> None:
    if not (FOLDER / "node_modules").is_dir():
        lacking("the client is not installed: get it with `make durable`")
    node = find_program("node", remedy="install it, e.g. apt install nodejs npm")
    (block,) = re.findall(r"^```js\n(.*?)^```$", DOCUMENT.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    (tmp_path / "node_modules").symlink_to(FOLDER / "node_modules")
    (tmp_path / "program.mjs").write_text(f'const server = "{front_end.url}", key = "k"\n{block}')
    process = await asyncio.create_subprocess_exec(node, "program.mjs", cwd=tmp_path, preexec_fn=die_with_parent)
    assert await process.wait() == 0
    async with httpx2.AsyncClient(base_url=front_end.url) as http:
        assert (await http.get("/ds/jobs/42", params={"offset": "-1"})).json() == [{"step": 1}]


async def test_the_suite_finds_nothing_but_forks_missing(front_end: Running, tmp_path: Path) -> None:
    results = await run_suite(f"{front_end.url}/ds", tmp_path / "report.json")
    failed = {each["fullName"]: each["failureMessages"] for each in results if each["status"] == "failed"}
    passed = [each for each in results if each["status"] == "passed"]
    left_out = {each["fullName"] for each in results if each["status"] in ("skipped", "pending")}
    print(f"{len(passed)} passed, {len(failed)} failed, {len(left_out)} left out")
    assert not failed, json.dumps(failed, indent=1)[:8000]
    assert all(name.startswith(UNSUPPORTED) for name in left_out), left_out
    assert len(passed) > 200
