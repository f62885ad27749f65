"""The programs that run frameworks: one process for each environment, which serves jobs at once.

A driver reads a job as a line of JSON and answers with one; ``tests/compat/node_clients.py`` has the protocol.

    {"id": 1, "action": ACTION, "row": LABEL, "url": ORIGIN, "model": …, "prompt": …}

``action`` is ``plain``, ``stream``, ``tools`` or ``structured``; ``url`` has no ``/v1``. With ``"abort_after": K`` the
framework's user leaves a stream after K deltas. The answer:

    {"text": …, "deltas": […], "finish": …, "usage": {"input_tokens", "output_tokens"} or null, "object": …,
     "tool_results": […], "error": {"name", "status", "message"} or null}

An exception of the framework is no failure of the driver: it stands in ``error``, beside what came before it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import pytest

from broadcaster.process.lifeline import die_with_parent
from tests.compat.node_clients import LINE_LIMIT_BYTES, Driver, Json
from tests.support.servers.programs import find_program

ROOT: Final = Path(__file__).resolve().parents[2]
FOLDER: Final = Path(__file__).parent
# Imports of the larger frameworks take ten seconds of an idle core.
JOB_TIMEOUT_S: Final = 90.0
# What a developer's machine may have set must not reach a framework: a row has an address, a key and a model.
FOREIGN: Final = ("OPENAI_", "ANTHROPIC_", "LITELLM_", "LANGSMITH_", "LANGCHAIN_", "HF_")


@dataclass(frozen=True)
class Environment:
    """``command`` gives the driver's command, ``folder`` is where it runs; ``remedy`` brings ``needs``."""

    command: Callable[[], tuple[str, ...]]
    folder: Path
    needs: Path
    remedy: str
    job_timeout_s: float = JOB_TIMEOUT_S


def _python(name: str) -> Environment:
    environment = ROOT / f".venv-{name}"
    return Environment(
        lambda: (str(environment / "bin" / "python"), "driver.py"),
        FOLDER / "python",
        environment / ".installed",
        "make frameworks-python",
    )


def find_node() -> str:
    """The program's path."""
    return find_program("node", remedy="install it, e.g. apt install nodejs npm")


def _node(name: str, folder: str = "node") -> Environment:
    path = FOLDER / folder
    return Environment(
        lambda: (find_node(), f"{name}.mjs"), path, path / "node_modules" / ".installed", f"make frameworks-{folder}"
    )


ENVIRONMENTS: Final[dict[str, Environment]] = {
    "python": _python("frameworks"),
    "python-openai2": _python("frameworks-openai2"),
    "node-ai": _node("ai"),
    "node-openai": _node("openai"),
    "node-openai-agents": _node("openai_agents"),
    "node-langchain": _node("langchain"),
    "node-tanstack": _node("tanstack"),
    "copilotkit": _node("driver", folder="copilotkit"),
}


class DrivenRow(Protocol):
    """A row, as its environment's driver knows it."""

    @property
    def label(self) -> str: ...

    @property
    def environment(self) -> str: ...


class Drivers:
    """Drivers that were started once, for all tests; an async context manager."""

    def __init__(self, environments: Mapping[str, Environment]) -> None:
        self._environments = environments
        self._stack = AsyncExitStack()
        self._started: dict[str, Driver] = {}
        # Several jobs may be the first of their environment, and shall share one process.
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Drivers:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def request(self, row: DrivenRow, action: str, **job: Any) -> Json:
        """The answer of this row's framework. Skips the test when its environment was not fetched."""
        environment = self._environments[row.environment]
        if not environment.needs.exists():
            pytest.skip(f"{row.label}: its packages are missing; get them with `{environment.remedy}`")
        async with self._starting:
            if row.environment not in self._started:
                self._started[row.environment] = await self._start(environment)
        return await self._started[row.environment].request(action, row=row.label, **job)

    async def _start(self, environment: Environment) -> Driver:
        process = await asyncio.create_subprocess_exec(
            *environment.command(),
            cwd=environment.folder,
            env={name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT_BYTES,
            preexec_fn=die_with_parent,
        )
        driver = Driver(process, job_timeout_s=environment.job_timeout_s)
        self._stack.push_async_callback(driver.close)
        return driver
