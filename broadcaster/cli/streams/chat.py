"""``chat``: a conversation in the terminal. Each turn is a generation, and sends the conversation so far."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from types import FrameType
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
        interrupts = _Interrupts()
        conversation = _Conversation(client, visit, interrupts, model=model, options=options)
        for line in _lines():
            with interrupts.turn():
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


class _Interrupts:
    """What Ctrl-C does: at the prompt it raises KeyboardInterrupt, which ends the reading of a line.

    During a turn the first one sets ``stop``, also before the answer has an id; the next one, or the first one after
    ``answered``, ends the conversation. The handler itself raises nothing there: an exception that a signal raises in a
    weak reference's callback is lost.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Task[Any] | None = None
        self._is_answered = False
        self._unserved = 0  # signals that have had no effect yet
        self.stop = asyncio.Event()
        signal.signal(signal.SIGINT, self._receive)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The block is a turn. Raises KeyboardInterrupt when the conversation ends with it."""
        self.stop.clear()
        self._is_answered, self._unserved, self._turn = False, 0, asyncio.current_task()
        try:
            yield
        except asyncio.CancelledError:
            if not self._unserved:
                raise
        finally:
            self._turn = None
        if self._unserved:
            raise KeyboardInterrupt

    def answered(self) -> None:
        """There is no answer to stop any more: it is over, was stopped, or failed."""
        self._is_answered = True

    def _receive(self, _number: int, _frame: FrameType | None) -> None:
        if self._turn is None:
            raise KeyboardInterrupt
        self._unserved += 1
        self._loop.call_soon_threadsafe(self._serve)

    def _serve(self) -> None:
        if self._turn is None:
            return
        if self._is_answered or self.stop.is_set():
            self._turn.cancel()
        else:
            self._unserved -= 1
            self.stop.set()


class _Conversation:
    """The messages so far. A turn without an answer leaves none: the next one does not build upon it."""

    def __init__(
        self,
        client: AsyncClient,
        visit: Visit,
        interrupts: _Interrupts,
        *,
        model: str | None,
        options: GenerationOptions,
    ) -> None:
        self.exit_code = ExitCode.OK
        self._client = client
        self._visit = visit
        self._interrupts = interrupts
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
        try:
            id = await self._show(messages)
        finally:
            self._interrupts.answered()
        return (await self._client.get(id, wait_s=END_S)).text

    async def _show(self, messages: list[dict[str, Any]]) -> str:
        """Show the answer to its end, or until it is stopped. Returns its id."""
        generation = await self._client.start(messages=messages, model=self._model, **self._options)
        watching = asyncio.ensure_future(self._visit.watch(self._client, generation.id, after=None, as_json=False))
        stopping = asyncio.ensure_future(self._interrupts.stop.wait())
        try:
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not watching.done():
                await end_tasks(watching)
                await self._stop(generation.id)
            else:
                self.exit_code = watching.result() or self.exit_code
        finally:
            await end_tasks(watching, stopping)
        return generation.id

    async def _stop(self, id: str) -> None:
        self._visit.screen.rest()
        await self._client.stop(id)
        self._visit.ended()
        self._visit.screen.note("stopped")

    def _fail(self, failure: CommandFailed) -> None:
        self.exit_code = failure.code
        self._visit.screen.rest()
        self._visit.screen.fail(str(failure))
