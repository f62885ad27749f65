"""The scripted provider: a real HTTP server on the loopback that speaks the wires of three APIs by a script.

    async with ScriptedProvider() as provider:
        provider.script("claude-x", Script(Answer(529)), Script.of_text("Hello ", "world"))
        claude = AsyncAnthropic(base_url=provider.base_url, api_key="any")
        openai = AsyncOpenAI(base_url=provider.openai_base_url, api_key="any")

The path selects the wire: ``/v1/messages``, ``/v1/chat/completions``, ``/v1/responses``, ``/v1/completions``
(``wires``), ``/v1/embeddings`` and the counts of tokens (``calls``), all of them also without ``/v1``. ``GET
/v1/models`` lists the models, ``GET /v1/models/{id}`` shows one. A script serves its model on any wire.

Patching the HTTP client tests the patch; a socket tests what a deployment does: packets, closes, silence.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import defaultdict, deque
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from broadcaster.process.thread_event import ThreadEvent
from broadcaster.testing import chat_wire, wire
from broadcaster.testing.calls import PATHS, wire_of
from broadcaster.testing.conversation import REQUEST_TIMEOUT_S, Conversation
from broadcaster.testing.exchange import Exchange, WholeExchange
from broadcaster.testing.http1 import DEFAULT_TIMEOUT_S, ClientGone, RecordedRequest, ScriptedConnection
from broadcaster.testing.script import Script
from broadcaster.testing.wire import Json

DEFAULT_MODELS: Final = (wire.DEFAULT_MODEL, chat_wire.DEFAULT_MODEL)
MAX_TOKENS: Final = 64_000
"""The largest ``max_tokens`` of a model if a test sets no other."""
# Load generators open hundreds of connections in one loop turn.
_BACKLOG: Final = 1024


class ScriptedProvider:
    """The server; enter it to listen, leave it to end every connection (ExceptionGroup if a script was itself wrong).

    The test may run in another thread than the server's loop: it may call everything but enter and leave it.

    A request takes the next open conversation of its model, else the next script of its model (the last one stays),
    else the default script. With an ``api_key``, every request without it gets a 401; otherwise a request needs no key.
    """

    def __init__(
        self,
        *,
        default: Script | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str | None = None,
    ) -> None:
        self.requests: list[RecordedRequest] = []
        self.lookups: list[RecordedRequest] = []
        """The requests for the details of one model, which are not in ``requests``."""
        self.output_limits: dict[str, int | None] = {}
        """The ``max_tokens`` of models in the response to a lookup; None: 404."""
        self._default = default or Script.of_text("Hello ", "world", ".")
        self._host = host
        self._port = port
        self._api_key = api_key
        self._scripts: dict[str, deque[Script]] = {}
        self._conversations: defaultdict[str, deque[Conversation]] = defaultdict(deque)
        self._connections: set[ScriptedConnection] = set()
        self._connection_numbers = itertools.count(1)
        self._arrived = ThreadEvent()
        self._failures: list[Exception] = []
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> ScriptedProvider:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connect, self._host, self._port, backlog=_BACKLOG)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self._connections):
            await connection.aclose()
        await self._server.wait_closed()
        if error is None and self._failures:
            raise ExceptionGroup("scripts failed", self._failures)

    @property
    def base_url(self) -> str:
        """The base URL for Anthropic's SDK (without ``/v1``)."""
        return f"http://{self._host}:{self._port}"

    @property
    def openai_base_url(self) -> str:
        """The base URL for OpenAI's SDK (with ``/v1``)."""
        return f"{self.base_url}/v1"

    def script(self, model: str, *scripts: Script) -> None:
        """Set the scripts of a model: its first request gets the first one, and so on; the last one stays."""
        if not scripts:
            raise ValueError("at least one script")
        self._scripts[model] = deque(scripts)

    def conversation(self, model: str, *, timeout_s: float = REQUEST_TIMEOUT_S) -> Conversation:
        """Answer the next request for a model in the test; another call takes the request after it.

        ``timeout_s``: for how long the conversation waits for its request.
        """
        conversation = Conversation(timeout_s=timeout_s)
        self._conversations[model].append(conversation)
        return conversation

    async def wait_requests(self, count: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[RecordedRequest]:
        """The requests so far, once there are at least ``count``. Raises TimeoutError."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    arrived = self._arrived  # first: the loop of the server may be another thread's
                    if len(self.requests) >= count:
                        break
                    await arrived.wait()
        except TimeoutError:
            raise TimeoutError(f"{len(self.requests)} of {count} requests came in {timeout_s} s") from None
        return list(self.requests)

    def _connect(self) -> ScriptedConnection:
        number = next(self._connection_numbers)
        connection = ScriptedConnection(number, on_request=self._answer, on_lost=self._connections.discard)
        self._connections.add(connection)
        return connection

    async def _answer(self, connection: ScriptedConnection, request: RecordedRequest) -> None:
        path = request.path.partition("?")[0].removeprefix("/").removeprefix("v1/")
        is_lookup = request.method == "GET" and path.partition("/")[0] == "models"
        (self.lookups if is_lookup else self.requests).append(request)
        self._arrived.set()
        self._arrived = ThreadEvent()
        kind = Exchange if _is_streaming(request) else WholeExchange
        request_id = f"req_scripted_{len(self.requests)}"
        exchange = kind(connection, request, wire=wire_of(path, request.body), request_id=request_id)
        if self._api_key is not None and not _has_key(request, self._api_key):
            await exchange.answer_error(401, "another API key than the one this provider was given")
        elif (request.method, path) == ("GET", "models"):
            await exchange.answer(200, json.dumps(_model_list(self._models())).encode())
        elif (
            is_lookup
            and path != "models"
            and (limit := self.output_limits.get(model := path[7:], MAX_TOKENS)) is not None
        ):
            await exchange.answer(200, json.dumps(_model_details(model, max_tokens=limit)).encode())
        elif refusal := _refusal(request, path):
            await exchange.answer_error(*refusal)
        else:
            await self._play(self._script_for(exchange.model), exchange)

    async def _play(self, script: Script, exchange: Exchange) -> None:
        try:
            await script.play(exchange)
        except ClientGone:
            raise
        except Exception as failure:
            # A script that is wrong fails the test when it leaves the provider; the client only sees a cut.
            self._failures.append(failure)
            exchange.cut()

    def _models(self) -> list[str]:
        return list(dict.fromkeys([*DEFAULT_MODELS, *self._scripts, *self._conversations]))

    def _script_for(self, model: str) -> Script:
        if conversations := self._conversations.get(model):
            return Script(conversations.popleft().as_step())
        scripts = self._scripts.get(model)
        if scripts is None:
            return self._default
        return scripts.popleft() if len(scripts) > 1 else scripts[0]


def _is_streaming(request: RecordedRequest) -> bool:
    return isinstance(request.body, dict) and request.body.get("stream") is True


def _has_key(request: RecordedRequest, api_key: str) -> bool:
    """Whether the key is in one of the two headers in which SDKs send it."""
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
    return api_key in (bearer, request.headers.get("x-api-key"))


def _refusal(request: RecordedRequest, path: str) -> tuple[int, str] | None:
    """Why no script can play for this request: status and message."""
    if request.method != "POST" or path not in PATHS:
        return 404, f"only POST to {', '.join(f'/v1/{known}' for known in PATHS)} and GET /v1/models are served"
    if not isinstance(request.body, dict) or not isinstance(request.body.get("model"), str):
        return 400, "the body must be a JSON object with a model"
    if request.body.get("stream") not in (None, False, True):
        return 400, "stream must be true or false"
    return None


def _model_list(models: Sequence[str]) -> Json:
    """The answer to ``GET /v1/models``."""
    return {
        "object": "list",
        "data": [_model(model) for model in models],
        "has_more": False,
        "first_id": models[0],
        "last_id": models[-1],
    }


def _model_details(model: str, *, max_tokens: int) -> Json:
    """The answer to ``GET /v1/models/{id}``."""
    return {**_model(model), "max_input_tokens": 200_000, "max_tokens": max_tokens, "lifecycle": "active"}


def _model(model: str) -> Json:
    created_at = datetime.fromtimestamp(chat_wire.CREATED, UTC).isoformat()
    anthropic = {"type": "model", "display_name": model, "created_at": created_at}
    return {"id": model, "object": "model", "created": chat_wire.CREATED, "owned_by": "scripted", **anthropic}
