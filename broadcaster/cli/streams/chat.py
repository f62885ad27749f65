"""``chat``: a conversation in the terminal. Each turn is a generation, and sends the conversation so far."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Final

from broadcaster.cli.front_end_client import Plain, Url, Visit
from broadcaster.cli.streams.generate import MaxTokens, Model, System, Temperature
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.client import AsyncClient, ClientError
from broadcaster.core.requests.options import GenerationOptions

PROMPT: Final = "> "
LEAVE: Final = frozenset({"/exit", "/quit"})
# After a stop the answer ends within this time: until then its last words may still come.
END_S: Final = 10.0


def chat(
    model: Model = None,
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    plain: Plain = False,
    url: Url = None,
) -> None:
    """Hold a conversation: one line is one message.

    Ctrl-C stops an answer, which stays in the conversation as far as it came. Ctrl-D or /exit ends the conversation.
    """
    visit = Visit(url, is_plain=plain)
    options = GenerationOptions(system=system, temperature=temperature, max_tokens=max_tokens)

    async def work(client: AsyncClient) -> ExitCode:
        # At the prompt Ctrl-C must end the reading of a line, not only cancel what waits for it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        conversation = _Conversation(client, visit, model=model, options=options)
        for line in _lines():
            await conversation.take_turn(line)
        return conversation.exit_code

    visit.run(work)


def _lines() -> Iterator[str]:
    """What the user types, or what stdin holds, until its end or a line of LEAVE; without empty lines."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        with contextlib.suppress(ImportError):  # not every Python has it
            import_module("readline")  # input() then edits a line, and recalls earlier ones
        lines = _typed()
    else:
        lines = iter(sys.stdin)
    for line in lines:
        text = line.strip()
        if text in LEAVE:
            return
        if text:
            yield text


def _typed() -> Iterator[str]:
    with contextlib.suppress(EOFError):
        while True:
            yield input(PROMPT)
    sys.stdout.write("\n")


class _Conversation:
    """The messages so far. A turn without an answer leaves none: the next one does not build upon it."""

    def __init__(self, client: AsyncClient, visit: Visit, *, model: str | None, options: GenerationOptions) -> None:
        self.exit_code = ExitCode.OK
        self._client = client
        self._visit = visit
        self._model = model
        self._options = options
        self._messages: list[dict[str, Any]] = []

    async def take_turn(self, text: str) -> None:
        """Send the message and show the answer; a failure is shown, and the conversation continues."""
        messages = [*self._messages, {"role": "user", "content": text}]
        try:
            answer = await self._answer(messages)
        except ClientError as error:
            self._fail(self._visit.failure(error))
            return
        if answer:
            self._messages = [*messages, {"role": "assistant", "content": answer}]
        else:
            self.exit_code = ExitCode.FAILED
            self._visit.screen.note("there is no answer, so this message is left out of the conversation")

    async def _answer(self, messages: list[dict[str, Any]]) -> str:
        """Show the answer while it comes. Returns its text, as far as it came."""
        generation = await self._client.start(messages=messages, model=self._model, **self._options)
        watching = asyncio.ensure_future(self._visit.watch(self._client, generation.id, after=None, as_json=False))
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, watching.cancel)
        try:
            if await watching:
                self.exit_code = ExitCode.FAILED
        except asyncio.CancelledError:
            self._visit.screen.rest()
            await self._client.stop(generation.id)
            self._visit.screen.note("stopped")
        finally:
            watching.cancel()
            loop.remove_signal_handler(signal.SIGINT)
        return (await self._client.get(generation.id, wait_s=END_S)).text

    def _fail(self, failure: CommandFailed) -> None:
        self.exit_code = failure.code
        self._visit.screen.rest()
        self._visit.screen.fail(str(failure))
