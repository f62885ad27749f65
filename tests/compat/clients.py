"""The clients: each is a row of the matrix, and reads a stream in one dialect to its end.

``open`` starts what the client needs; what it gives, ``Show``, reads a stream at an address into ``Shown``. Options:
``headers``; for Responses ``stream_id`` (without one a new one in the background), ``starting_after``, ``cancel``; for
the AI SDK ``chat_id`` (without one the address is that of the stream itself), ``is_new``: a message is sent; ``model``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from broadcaster.core.cursor import START
from tests.compat import python_clients, readings
from tests.compat.node_clients import Driver, open_driver
from tests.compat.readings import Json, Read, Shown
from tests.compat.response_events import of_events

HISTORY: Final = [{"id": "m1", "role": "user", "content": python_clients.QUESTION}]
"""What an AG-UI client has before the run: ``node/ag_ui_agent.mjs``."""


class Show(Protocol):
    """Read a stream to its end."""

    async def __call__(self, url: str, **options: Any) -> Shown: ...


@dataclass(frozen=True)
class Client:
    """``dialect`` is what it reads, with ``options`` of that dialect; ``can_retract`` whether a new attempt takes back
    what this client shows already, instead of ending it with an error."""

    name: str
    dialect: str
    open: Callable[[], AbstractAsyncContextManager[Show]]
    read: Callable[[Any], Read]
    can_retract: bool = False
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:
        """Its dialect on the fixture server: clients of other options have another."""
        return "".join(letter for letter in self.name.casefold() if letter.isalnum())

    def __str__(self) -> str:
        return self.name


def python(create: Callable[[], Any], request: Callable[..., Any]) -> Callable[[], AbstractAsyncContextManager[Show]]:
    """An SDK in this interpreter: ``request`` receives a client of the address."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Show]:
        async with create() as client:

            async def show(url: str, **options: Any) -> Shown:
                shown: Shown = await request(client.with_options(base_url=url), **options)
                return shown

            yield show

    return opened


@asynccontextmanager
async def curl() -> AsyncIterator[Show]:
    """A program, started for every connection."""
    yield _curl_twice


Request = Callable[..., Any]
Headers = dict[str, str] | None


def node(driver: str, request: Request) -> Callable[[], AbstractAsyncContextManager[Show]]:
    """A client under node; ``request`` turns an address and options into a job, and its answer into Shown."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Show]:
        async with open_driver(driver) as process:

            async def show(url: str, **options: Any) -> Shown:
                shown: Shown = await request(process, url, **options)
                return shown

            yield show

    return opened


async def _request_object(driver: Driver, url: str, *, action: str, **options: Any) -> Shown:
    answer = await driver.request(action, url=url, **options)
    return Shown(answer["final"], answer["error"])


async def _request_chat(driver: Driver, url: str, **options: Any) -> Shown:
    return await _request_object(driver, url, action="chat", **options)


async def _request_message(driver: Driver, url: str, **options: Any) -> Shown:
    return await _request_object(driver, url, action="message", **options)


async def _request_response(
    driver: Driver, url: str, *, stream_id: str = "", cancel: bool = False, **options: Any
) -> Shown:
    if cancel:
        return Shown(await driver.request("cancel", url=url, response_id=stream_id))
    if stream_id:
        answer = await driver.request("retrieve", url=url, response_id=stream_id, **options)
    else:
        answer = await driver.request("responses", url=url, **options)
    return of_events(answer["events"], answer["error"])


def _request_ui_message(version: int) -> Request:
    async def request(
        driver: Driver, url: str, *, chat_id: str = "", is_new: bool = False, model: str | None = None, **_: Any
    ) -> Shown:
        job: Json = {"url": url, "version": version, "chat_id": chat_id or "chat", "exact": not chat_id}
        job |= {"body": {"model": model}} if model else {}
        answer = await driver.request("send" if is_new else "resume", **job)
        return Shown(answer["final"], answer["error"], (*answer["types"],))

    return request


async def _request_run(
    driver: Driver, url: str, *, headers: Headers = None, model: str | None = None, **_: Any
) -> Shown:
    forwarded = {"model": model} if model else {}
    answer = await driver.request("run", url=url, messages=HISTORY, headers=headers, forwarded=forwarded)
    return Shown([*answer["final"], {"role": "outcome", "is": answer["outcome"]}], answer["error"], (*answer["types"],))


async def _request_entries(driver: Driver, url: str, **_: Any) -> Shown:
    answer = await driver.request("watch", url=url)
    return Shown(answer["entries"], None, (f"{answer['connections']} connections",))


async def _curl_twice(url: str, **_: Any) -> Shown:
    """What comes until the connection ends, and the rest: as plain bytes of the native dialect."""
    entries = python_clients.entries_of(await python_clients.curl(url))
    after = entries[-1]["id"] if entries else str(START)
    if not (entries and is_terminal(entries[-1])):
        entries += python_clients.entries_of(await python_clients.curl(url, "--header", f"Last-Event-ID: {after}"))
    return Shown(entries)


def is_terminal(entry: Json) -> bool:
    """Whether it ends its stream."""
    return entry["event"]["type"] in ("finish", "error", "abort")


_AG_UI_OPTIONS: Final = (("thread_id", "t1"), ("run_id", "r1"), ("history", msgspec.json.encode(HISTORY)))

CHAT_PY: Final = Client(
    "openai, Python: chat completions",
    "openai-chat",
    python(python_clients.openai, python_clients.chat),
    readings.of_chat,
)
CHAT_JS: Final = Client(
    "openai, Node: chat completions", "openai-chat", node("openai", _request_chat), readings.of_chat
)
RESPONSES_PY: Final = Client(
    "openai, Python: Responses",
    "openai-responses",
    python(python_clients.openai, python_clients.response),
    readings.of_response,
    True,
)
RESPONSES_JS: Final = Client(
    "openai, Node: Responses", "openai-responses", node("openai", _request_response), readings.of_response, True
)
MESSAGES_PY: Final = Client(
    "anthropic, Python", "anthropic", python(python_clients.anthropic, python_clients.message), readings.of_message
)
MESSAGES_JS: Final = Client(
    "@anthropic-ai/sdk, Node", "anthropic", node("anthropic", _request_message), readings.of_message
)
AI_6: Final = Client(
    "ai 6: DefaultChatTransport", "ai-sdk", node("ai_sdk", _request_ui_message(6)), readings.of_ui_message
)
AI_7: Final = Client(
    "ai 7: DefaultChatTransport",
    "ai-sdk",
    node("ai_sdk", _request_ui_message(7)),
    readings.of_ui_message,
    can_retract=True,
    options=(("version", 7),),
)
AG_UI: Final = Client(
    "@ag-ui/client: HttpAgent",
    "ag-ui",
    node("ag_ui_agent", _request_run),
    readings.of_messages,
    can_retract=True,
    options=_AG_UI_OPTIONS,
)
EVENT_SOURCE: Final = Client(
    "eventsource, Node", "native", node("eventsource", _request_entries), readings.of_native, can_retract=True
)
CURL: Final = Client("curl", "native", curl, readings.of_native, can_retract=True)

CLIENTS: Final = (
    *(CHAT_PY, CHAT_JS, RESPONSES_PY, RESPONSES_JS, MESSAGES_PY, MESSAGES_JS),
    *(AI_6, AI_7, AG_UI, EVENT_SOURCE, CURL),
)


class Opened:
    """Clients that were opened once, for all tests of a module; an async context manager."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._shows: dict[str, Show] = {}

    async def __aenter__(self) -> Opened:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def show(self, client: Client) -> Show:
        """The client, ready to read any number of streams at once."""
        if client.name not in self._shows:
            self._shows[client.name] = await self._stack.enter_async_context(client.open())
        return self._shows[client.name]
