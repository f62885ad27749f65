"""The clients under node: one process per driver, which serves many jobs at once."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from broadcaster.process.lifeline import die_with_parent
from tests.support.servers.programs import find_program, lacking

Json = dict[str, Any]

FOLDER: Final = Path(__file__).parent / "node"
JOB_TIMEOUT_S: Final = 30.0
LINE_LIMIT_BYTES: Final = 16 * 1024 * 1024


class JobFailed(Exception):
    """The client raised where its driver had nothing to answer: ``failure`` has name, message, status, code, type."""

    def __init__(self, failure: Json) -> None:
        super().__init__(f"{failure['name']}: {failure['message']}")
        self.failure = failure


class Driver:
    """A running driver, whose jobs take so long at most."""

    def __init__(self, process: asyncio.subprocess.Process, *, job_timeout_s: float = JOB_TIMEOUT_S) -> None:
        self._process = process
        self._job_timeout_s = job_timeout_s
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._reading = asyncio.create_task(self._read())

    async def request(self, action: str, **job: Any) -> Json:
        """The answer to one job. Raises JobFailed, and TimeoutError when none comes."""
        number = next(self._numbers)
        answered = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": number, "action": action, **job}).encode() + b"\n")
        async with asyncio.timeout(self._job_timeout_s):
            reply = await answered
        if "failure" in reply:
            raise JobFailed(reply["failure"])
        answer: Json = reply["answer"]
        return answer

    async def close(self) -> None:
        """End the process."""
        self._reading.cancel()
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            reply = json.loads(line)
            self._waiting.pop(reply["id"]).set_result(reply)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionError("the driver ended: its error is in the captured output"))


def pinned_modules(folder: Path) -> Iterator[str]:
    """The packages that the ``package.json`` of a folder names, with their versions."""
    package: Json = json.loads((folder / "package.json").read_text("utf-8"))
    modules: dict[str, str] = package["dependencies"] | package.get("optionalDependencies", {})
    for name, version in sorted(modules.items()):
        # An alias (ai6) stands for "npm:ai@6.…".
        pinned = version.removeprefix("npm:") if version.startswith("npm:") else f"{name}@{version}"
        yield " ".join(pinned.rsplit("@", 1))


def require_modules() -> str:
    """The path of node. Ends the test as ``lacking`` without node or the modules."""
    if not (FOLDER / "node_modules").is_dir():
        lacking("no modules of node: get them with `make compat-modules`")
    return find_program("node", remedy="install it, e.g. apt install nodejs npm")


@asynccontextmanager
async def open_driver(name: str) -> AsyncIterator[Driver]:
    """The driver in ``node/NAME.mjs``."""
    async with start_driver(require_modules(), FOLDER / f"{name}.mjs") as driver:
        yield driver


@asynccontextmanager
async def start_driver(program: str, script: Path, *, options: Sequence[str] = ()) -> AsyncIterator[Driver]:
    """A driver that is a script of its own, run by node or another program; ``options`` stand before the script."""
    process = await asyncio.create_subprocess_exec(
        *(program, *options, script.name),
        cwd=script.parent,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT_BYTES,
        preexec_fn=die_with_parent,
    )
    driver = Driver(process)
    try:
        yield driver
    finally:
        await driver.close()
