"""``chat``: a conversation in the terminal. Each turn is a generation, and sends the conversation so far."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any, Final

from broadcaster.cli.front_end_client import Plain, Url, Visit
from broadcaster.cli.streams.generate import MaxTokens, Model, System, Temperature
from broadcaster.cli.streams.unknown_models import unknown_model
from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.stdin_text import reading_stdin
from broadcaster.client import AsyncClient, ClientError
from broadcaster.core.requests.options import GenerationOptions
from broadcaster.process.tasks import end_tasks

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

    Ctrl-C stops an answer, which stays in the conversation as far as it came. Ctrl-D, /exit, or Ctrl-C at the prompt
    ends the conversation.
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
    with reading_stdin() as stdin:
        is_typed = stdin.isatty() and sys.stdout.isatty()
        for line in _typed() if is_typed else stdin:
            text = line.strip()
            if text in LEAVE:
                return
            if text:
                yield text


def _typed() -> Iterator[str]:
    with suppress(ImportError):  # not every Python has it
        import_module("readline")  # input() then edits a line, and recalls earlier ones
    with suppress(EOFError):
        while True:
            yield input(PROMPT)
    sys.stdout.write("\n")


@contextmanager
def _first_interrupt() -> Iterator[asyncio.Event]:
    """Set by a Ctrl-C while the block runs, also before the answer has an id. A second one ends the conversation."""
    loop, interrupted = asyncio.get_running_loop(), asyncio.Event()

    def note() -> None:
        interrupted.set()
        loop.remove_signal_handler(signal.SIGINT)

    loop.add_signal_handler(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        loop.remove_signal_handler(signal.SIGINT)


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
            self._fail(await unknown_model(self._client, error, self._model) or self._visit.failure(error))
            return
        if answer:
            self._messages = [*messages, {"role": "assistant", "content": answer}]
        else:
            self.exit_code = ExitCode.FAILED
            self._visit.screen.note("there is no answer, so this message is left out of the conversation")

    async def _answer(self, messages: list[dict[str, Any]]) -> str:
        """Show the answer while it comes. Returns its text, as far as it came."""
        with _first_interrupt() as interrupted:
            generation = await self._client.start(messages=messages, model=self._model, **self._options)
            watching = asyncio.ensure_future(self._visit.watch(self._client, generation.id, after=None, as_json=False))
            interrupting = asyncio.ensure_future(interrupted.wait())
            try:
                await asyncio.wait({watching, interrupting}, return_when=asyncio.FIRST_COMPLETED)
                if not watching.done():
                    await end_tasks(watching)
                    await self._stop(generation.id)
                elif watching.result():
                    self.exit_code = ExitCode.FAILED
            finally:
                await end_tasks(watching, interrupting)
        return (await self._client.get(generation.id, wait_s=END_S)).text

    async def _stop(self, id: str) -> None:
        self._visit.screen.rest()
        await self._client.stop(id)
        self._visit.ended()
        self._visit.screen.note("stopped")

    def _fail(self, failure: CommandFailed) -> None:
        self.exit_code = failure.code
        self._visit.screen.rest()
        self._visit.screen.fail(str(failure))
