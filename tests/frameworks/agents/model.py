"""The models that a coding agent works with.

``CodingModel`` makes one file, and then reports that it is done. Its rules, in this order
1. After the result of its call, the answer is ``DONE``.
2. If the request offers a tool that runs commands, it is called with ``COMMAND``.
3. If the request describes aider's formats, the answer is the file in the format that it requires.
4. Otherwise the answer is ``DONE``: agents also request titles.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, Final

from broadcaster.testing import Exchange, RecordedRequest
from tests.frameworks.model import CITY, PIECES, wants_object

Json = dict[str, Any]

FILE: Final = "made.txt"
LINE: Final = "made by the agent"
TASK: Final = f"Make {FILE} with the line: {LINE}"
COMMAND: Final = f"echo {LINE} > {FILE}"
PART: Final = "Let me see. "
DONE: Final = ("The file ", "is there.")

# The tools that run a command, by the agents' names for them, and the argument that holds the command.
_SHELLS: Final = {"exec_command": "cmd", "bash": "command", "Bash": "command"}
# The tool by which Claude Code gets an object.
_OBJECT: Final = "StructuredOutput"
_WHOLE: Final = f"{FILE}\n```\n{LINE}\n```\n"
_BLOCK: Final = f"{FILE}\n```\n<<<<<<< SEARCH\n=======\n{LINE}\n>>>>>>> REPLACE\n```\n"


class CodingModel:
    """A step of a script: the whole answer to one request."""

    async def run(self, exchange: Exchange) -> None:
        composer = exchange.wire.compose(exchange.model)
        shell = next((name for name in _tool_names(exchange.request.body) if name in _SHELLS), None)
        if shell is not None and not _has_result(exchange.request.body):
            arguments = {_SHELLS[shell]: COMMAND, **({} if shell == "exec_command" else {"description": "make it"})}
            call = exchange.wire.tool_call(shell, *_halves(json.dumps(arguments)), id="call_made")
            await exchange.send_events(*composer.part(call))
        else:
            for piece in _edit(exchange.request.raw_body) if shell is None else DONE:
                await exchange.send_events(*composer.text(piece))
        await exchange.send_events(*composer.finish())


class InterruptedModel(CodingModel):
    """The same, but the first answer to the task stops after ``PART`` and waits until its worker is gone."""

    def __init__(self) -> None:
        self.has_begun = asyncio.Event()
        self.request: RecordedRequest | None = None

    async def run(self, exchange: Exchange) -> None:
        if self.has_begun.is_set() or not _is_task(exchange.request):
            await super().run(exchange)
            return
        self.request = exchange.request
        await exchange.send_events(*exchange.wire.compose(exchange.model).text(PART))
        self.has_begun.set()
        await exchange.wait_gone()


class TalkingModel:
    """A step of a script: the task is answered by text, or by the object that it requires, and by no command."""

    async def run(self, exchange: Exchange) -> None:
        body = exchange.request.body
        composer = exchange.wire.compose(exchange.model)
        if _OBJECT in _tool_names(body) and not _has_result(body):
            call = exchange.wire.tool_call(_OBJECT, *_halves(json.dumps(CITY)), id="call_city")
            await exchange.send_events(*composer.part(call))
        else:
            for piece in self._pieces(exchange.request):
                await exchange.send_events(*composer.text(piece))
        await exchange.send_events(*composer.finish())

    def _pieces(self, request: RecordedRequest) -> tuple[str, ...]:
        if wants_object(request.body):
            return _halves(json.dumps(CITY))
        return PIECES if _is_task(request) else DONE


def _is_task(request: RecordedRequest) -> bool:
    """Whether the agent requests its work, and not a title."""
    return any(name in _SHELLS for name in _tool_names(request.body)) or _edit(request.raw_body) != DONE


def _edit(body: bytes) -> tuple[str, ...]:
    if b"SEARCH/REPLACE" in body:
        return _halves(_BLOCK)
    return _halves(_WHOLE) if b"*file listing*" in body else DONE


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


def _tool_names(body: Json) -> Iterator[str]:
    for tool in body.get("tools") or []:
        yield (tool.get("function") or tool).get("name", "")


def _has_result(body: Json) -> bool:
    """Whether the request holds the result of a tool, in the format of any of the wires."""
    for turn in [*(body.get("messages") or []), *_list(body.get("input"))]:
        parts = [part.get("type") for part in _list(turn.get("content")) if isinstance(part, dict)]
        if turn.get("role") == "tool" or turn.get("type") == "function_call_output" or "tool_result" in parts:
            return True
    return False


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
