"""The coding agents: how each is configured for this server and run without a terminal.

An agent gets an address, a key and a model, in the way that docs/agents.md shows, and a home that is empty.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from broadcaster.process.lifeline import die_with_parent
from tests.frameworks.rows import CHAT, MESSAGES, PLAIN, RESPONSES, STOP, STRUCTURED, Row

ROOT: Final = Path(__file__).resolve().parents[3]
MODULES: Final = Path(__file__).parent / "node_modules"
AIDER: Final = ROOT / ".venv-frameworks-aider"
AGENT_TIMEOUT_S: Final = 90.0
# How long an agent may take to end by a signal.
SIGNAL_TIMEOUT_S: Final = 10.0
# The object that a model of ``tests.frameworks.model`` gives.
_SCHEMA: Final = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "temperature": {"type": "integer"}},
        "required": ["city", "temperature"],
        "additionalProperties": False,
    }
)
KEY: Final = "key-of-the-agent"


@dataclass(frozen=True)
class Printed:
    """How an agent is run: ``files`` of its home, ``environment`` and ``arguments``."""

    arguments: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Agent:
    """One agent and API; ``program`` is a pattern in ``folder``, and ``tell`` makes an origin and a model its own.

    ``left_out`` is as in ``Row``, and ``reasons`` is what the agent does instead, as its test shows. ``plain`` are
    the arguments for an answer that is not streamed, and ``structured`` those for an object.
    """

    label: str
    surface: str
    folder: Path
    program: str
    tell: Callable[[str, str, str], Printed]
    left_out: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    plain: tuple[str, ...] = ()
    structured: tuple[str, ...] = ()

    @property
    def row(self) -> Row:
        return Row(self.label, "agents", self.surface, finish=None, left_out=self.left_out)

    def find(self) -> str:
        """The program's path. Skips the test without it."""
        found = sorted(self.folder.glob(self.program))
        if not found:
            pytest.skip(f"{self.label}: it is missing; get it with `make agents frameworks-python`")
        return str(found[0])


@dataclass(frozen=True)
class Ran:
    """What an agent did: its exit code, what it wrote to stdout and to stderr, and the folder in which it worked."""

    code: int
    output: str
    errors: str
    folder: Path

    @property
    def shown(self) -> str:
        """All of that, without the line breaks by which an agent fits it to a terminal."""
        return " ".join(f"{self.output} {self.errors}".split())


@dataclass(frozen=True)
class Working:
    """An agent at work in ``folder``."""

    process: asyncio.subprocess.Process
    folder: Path

    async def end(self) -> Ran:
        """Wait for its end."""
        async with asyncio.timeout(AGENT_TIMEOUT_S):
            output, errors = await self.process.communicate()
        assert self.process.returncode is not None
        texts = (output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))
        return Ran(self.process.returncode, *texts, self.folder)

    async def leave(self) -> Ran:
        """End it as its user does: by SIGINT, and by SIGTERM if that is not enough. Raises TimeoutError after both."""
        ending = asyncio.create_task(self.end())
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self.process.send_signal(number)
                await asyncio.wait((ending,), timeout=SIGNAL_TIMEOUT_S)
                if ending.done():
                    return await ending
            raise TimeoutError(f"the agent still runs {SIGNAL_TIMEOUT_S} s after SIGTERM")
        finally:
            ending.cancel()


async def run(agent: Agent, home: Path, *, url: str, model: str, task: str, more: tuple[str, ...] = ()) -> Ran:
    """Give the task to the agent, with ``more`` arguments, and wait for its end."""
    async with work_on(agent, home, url=url, model=model, task=task, more=more) as working:
        return await working.end()


@asynccontextmanager
async def work_on(
    agent: Agent, home: Path, *, url: str, model: str, task: str, more: tuple[str, ...] = ()
) -> AsyncIterator[Working]:
    """Give the task to the agent, in an empty home with a folder ``work``. It is killed at the end."""
    printed = agent.tell(url, model, task)
    work = home / "work"
    work.mkdir(parents=True)
    for name, text in printed.files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **printed.environment}
    process = await asyncio.create_subprocess_exec(
        *(agent.find(), *printed.arguments, *more),
        cwd=work,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=die_with_parent,
    )
    try:
        yield Working(process, work)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _codex(url: str, model: str, task: str, *, more: str = "") -> Printed:
    config = f"""\
model = "{model}"
model_provider = "broadcaster"

[model_providers.broadcaster]
name = "broadcaster"
base_url = "{url}/v1"
env_key = "CODEX_KEY"
{more}"""
    files = {".codex/config.toml": config, "schema.json": _SCHEMA}
    without_questions = ("--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox")
    return Printed(("exec", *without_questions, task), {"CODEX_KEY": KEY}, files)


def _codex_websockets(url: str, model: str, task: str) -> Printed:
    return _codex(url, model, task, more="supports_websockets = true\n")


def _opencode(package: str) -> Callable[[str, str, str], Printed]:
    def tell(url: str, model: str, task: str) -> Printed:
        options = {"baseURL": f"{url}/v1", "apiKey": KEY}
        provider = {"npm": package, "name": "broadcaster", "options": options, "models": {model: {}}}
        config = {"provider": {"broadcaster": provider}, "model": f"broadcaster/{model}", "autoupdate": False}
        return Printed(("run", task), {}, {"work/opencode.json": json.dumps(config)})

    return tell


def _aider(api: str, address: str, suffix: str) -> Callable[[str, str, str], Printed]:
    def tell(url: str, model: str, task: str) -> Printed:
        quiet = ("--no-git", "--no-check-update", "--no-analytics", "--no-show-model-warnings", "--no-pretty")
        arguments = ("--model", f"{api}/{model}", "--message", task, "--yes-always", *quiet)
        return Printed(arguments, {address: url + suffix, f"{api.upper()}_API_KEY": KEY})

    return tell


def _claude_code(url: str, model: str, task: str) -> Printed:
    environment = {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_AUTH_TOKEN": KEY,
        "ANTHROPIC_MODEL": model,
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": model,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "IS_SANDBOX": "1",  # it refuses to skip its questions as root anywhere else
    }
    return Printed(("-p", task, "--dangerously-skip-permissions"), environment)


_CODEX: Final = "@openai/codex-*/vendor/*/bin/codex"
_OPENCODE: Final = "opencode-*/bin/opencode"
_STREAMS: Final = {PLAIN: "always streams"}
_NO_SCHEMAS: Final = {STRUCTURED: "no schemas"}
_TEXT_ONLY: Final = _STREAMS | _NO_SCHEMAS
_CODEX_SCHEMA: Final = ("--output-schema", "../schema.json")
_CLAUDE_SCHEMA: Final = ("--output-format", "json", "--json-schema", _SCHEMA)
# They repeat a request whose answer was stopped, and complete their task by the second answer.
_RETRIES: Final = {MESSAGES: {STOP: "asks again"}}
_AIDER_PLAIN: Final = ("--no-stream",)


def _agents() -> Iterator[Agent]:
    printed = {"Codex CLI: Responses": _codex, "Codex CLI: Responses, tries a WebSocket": _codex_websockets}
    for label, tell in printed.items():
        yield Agent(label, RESPONSES, MODULES, _CODEX, tell, _STREAMS, structured=_CODEX_SCHEMA)
    packages = {CHAT: "@ai-sdk/openai-compatible", RESPONSES: "@ai-sdk/openai", MESSAGES: "@ai-sdk/anthropic"}
    names = {CHAT: "chat", RESPONSES: "Responses", MESSAGES: "Messages"}
    for surface, package in packages.items():
        label, retries = f"opencode: {names[surface]}", _RETRIES.get(surface, {})
        yield Agent(label, surface, MODULES, _OPENCODE, _opencode(package), _TEXT_ONLY, retries)
    addresses = {CHAT: ("openai", "OPENAI_API_BASE", "/v1"), MESSAGES: ("anthropic", "ANTHROPIC_BASE_URL", "")}
    for surface, address in addresses.items():
        label, retries = f"aider: {names[surface]}", _RETRIES.get(surface, {})
        yield Agent(label, surface, AIDER, "bin/aider", _aider(*address), _NO_SCHEMAS, retries, plain=_AIDER_PLAIN)
    claude = "@anthropic-ai/claude-code-*/claude"
    yield Agent("Claude Code: Messages", MESSAGES, MODULES, claude, _claude_code, _STREAMS, structured=_CLAUDE_SCHEMA)


AGENTS: Final = tuple(_agents())
ROWS: Final = tuple(agent.row for agent in AGENTS)
