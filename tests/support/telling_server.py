"""A server in miniature that answers what a test says: a sentinel, or a cluster's node, with a view of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import hiredis

Answer: TypeAlias = bytes | int | Exception | Sequence["Answer"] | Callable[[], "Answer"]


class TellingServer:
    """Answers by the command's words, or its first; a command that is not in ``answers`` is never answered.

    An exception is an error with its words; a function gives another answer each time.
    """

    def __init__(self, port: int, answers: Mapping[str, Answer]) -> None:
        self.port = port
        self.answers = dict(answers)
        self.asked: list[str] = []
        self.connections = 0
        self._writers: set[asyncio.StreamWriter] = set()

    def say(self, words: Answer) -> None:
        """Say something unasked on every connection."""
        for writer in self._writers:
            writer.write(_encode(words))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        commands = hiredis.Reader()
        self._writers.add(writer)
        self.connections += 1
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while command := commands.gets():
                    words = b" ".join(command).decode()
                    self.asked.append(words)
                    told = words if words in self.answers else words.partition(" ")[0]
                    if told in self.answers:
                        writer.write(_encode(self.answers[told]))
        except ConnectionError:
            return
        finally:
            self._writers.discard(writer)
            writer.close()


@asynccontextmanager
async def open_telling(**answers: Answer) -> AsyncIterator[TellingServer]:
    """A server on a free port; names of commands with ``_`` between the words."""
    telling = TellingServer(0, {name.replace("_", " "): answer for name, answer in answers.items()})
    server = await asyncio.start_server(telling.serve, "127.0.0.1", 0)
    telling.port = server.sockets[0].getsockname()[1]
    try:
        yield telling
    finally:
        server.close()


def _encode(answer: Any) -> bytes:
    if callable(answer):
        return _encode(answer())
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, Exception):
        return b"-%s\r\n" % str(answer).encode()
    if isinstance(answer, bytes):
        return b"$%d\r\n%s\r\n" % (len(answer), answer)
    return b"*%d\r\n" % len(answer) + b"".join(map(_encode, answer))
