"""The scripted provider: a real HTTP server on the loopback that speaks the Anthropic Messages wire by a script.

    async with ScriptedProvider() as provider:
        provider.script("claude-x", Script(Answer(529)), Script.of_text("Hello ", "world"))
        client = AsyncAnthropic(base_url=provider.base_url, api_key="any")

Patching the HTTP client tests the patch; a socket tests what a deployment does: packets, closes, silence.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict, deque
from types import TracebackType
from typing import Final

from broadcaster.testing import wire
from broadcaster.testing.conversation import Conversation
from broadcaster.testing.http1 import DEFAULT_TIMEOUT_S, ClientGone, Connection, Exchange, RecordedRequest
from broadcaster.testing.script import Script

MESSAGES_PATH: Final = "/v1/messages"
# Load generators open hundreds of connections in one loop turn.
_BACKLOG: Final = 1024


class ScriptedProvider:
    """The server; enter it to listen, leave it to end every connection (ExceptionGroup if a script was itself wrong).

    A request takes the next open conversation of its model, else the next script of its model (the last one stays),
    else the default script.
    """

    def __init__(self, *, default: Script | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[RecordedRequest] = []
        self._default = default or Script.of_text("Hello ", "world", ".")
        self._host = host
        self._port = port
        self._scripts: dict[str, deque[Script]] = {}
        self._conversations: defaultdict[str, deque[Conversation]] = defaultdict(deque)
        self._connections: set[Connection] = set()
        self._connection_numbers = itertools.count(1)
        self._arrived = asyncio.Event()
        self._failures: list[Exception] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedProvider:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, self._host, self._port, backlog=_BACKLOG)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            await connection.aclose()
        await self._server.wait_closed()
        if error is None and self._failures:
            raise ExceptionGroup("scripts failed", self._failures)

    @property
    def base_url(self) -> str:
        """What an SDK is given as its base URL (without ``/v1``)."""
        return f"http://{self._host}:{self._port}"

    def script(self, model: str, *scripts: Script) -> None:
        """Set what the requests for a model get: the first gets the first script, and so on; the last one stays."""
        if not scripts:
            raise ValueError("at least one script")
        self._scripts[model] = deque(scripts)

    def conversation(self, model: str) -> Conversation:
        """Take the next request for a model into the test's own hands (the one after it goes to the next call's)."""
        conversation = Conversation()
        self._conversations[model].append(conversation)
        return conversation

    async def wait_requests(self, count: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[RecordedRequest]:
        """The requests so far, once there are at least ``count``. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                while len(self.requests) < count:
                    await self._arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"{len(self.requests)} of {count} requests came in {timeout_s} s") from None
        return list(self.requests)

    def _connect(self) -> Connection:
        number = next(self._connection_numbers)
        connection = Connection(number, on_request=self._answer, on_lost=self._connections.discard)
        self._connections.add(connection)
        return connection

    async def _answer(self, connection: Connection, request: RecordedRequest) -> None:
        self.requests.append(request)
        self._arrived.set()
        self._arrived = asyncio.Event()
        exchange = Exchange(connection, request, request_id=f"req_scripted_{len(self.requests)}")
        if refusal := _refusal(request):
            status, message = refusal
            await exchange.answer(status, json.dumps(wire.error(wire.ERROR_TYPES[status], message)).encode())
        else:
            await self._play(self._script_for(request.body["model"]), exchange)

    async def _play(self, script: Script, exchange: Exchange) -> None:
        try:
            await script.play(exchange)
        except ClientGone:
            raise
        except Exception as failure:
            # A script that is wrong fails the test, which leaves the provider; the client only sees a cut.
            self._failures.append(failure)
            exchange.cut()

    def _script_for(self, model: str) -> Script:
        if self._conversations[model]:
            return Script(self._conversations[model].popleft().as_step())
        scripts = self._scripts.get(model)
        if scripts is None:
            return self._default
        return scripts.popleft() if len(scripts) > 1 else scripts[0]


def _refusal(request: RecordedRequest) -> tuple[int, str] | None:
    """Why no script can play for this request: status and message."""
    if (request.method, request.path.partition("?")[0]) != ("POST", MESSAGES_PATH):
        return 404, f"only POST {MESSAGES_PATH} is served"
    if not isinstance(request.body, dict) or not isinstance(request.body.get("model"), str):
        return 400, "the body must be a JSON object with a model"
    if request.body.get("stream") is not True:
        return 400, "only stream: true is served"
    return None
