"""What a step gets: one request and the answer being written to it, in the wire of its path.

A request with ``stream: true`` gets its events as they come. Any other gets one JSON object at the end: the same steps
run, and the wire folds their bytes. So one script serves both, its waits and faults included. A truncated stream, or
one with bad JSON, folds to a body that ends in the middle of its JSON.
"""

from __future__ import annotations

import json

from broadcaster.core.sse import SseDecoder
from broadcaster.testing import chat_wire
from broadcaster.testing.http1 import HttpExchange, RecordedRequest, ScriptedConnection, parse_json
from broadcaster.testing.wire import WireEvent
from broadcaster.testing.wires import Wire


class Exchange(HttpExchange):
    """One request and the stream being written to it; ``wire`` is what both speak.

    Everything that writes raises ClientGone once the client has left.
    """

    def __init__(
        self, connection: ScriptedConnection, request: RecordedRequest, *, wire: Wire, request_id: str
    ) -> None:
        super().__init__(connection, request, headers={wire.request_id_header: request_id})
        self.wire = wire

    @property
    def model(self) -> str:
        """The model in the request."""
        return str(self.request.body["model"])

    async def send_events(self, *events: WireEvent) -> None:
        """Send events of the wire, each in its own chunk, as this request gets them."""
        for event in events:
            fitted = self.wire.for_request(event, self.request.body)
            if fitted is not None:
                await self.send(self.wire.frame(fitted))

    async def answer_error(self, status: int, message: str) -> None:
        """A status answer with the wire's own error body."""
        await self.answer(status, json.dumps(self.wire.error_body(status, message)).encode())


class WholeExchange(Exchange):
    """The same for a request without ``stream``: at most the head is sent before the end."""

    content_type = "application/json"
    _stream = b""

    async def send_events(self, *events: WireEvent) -> None:
        for event in events:
            await self.send(self.wire.frame(event))

    async def send(self, data: bytes) -> None:
        self.check_open()
        self._stream += data

    async def finish(self) -> None:
        texts = [message.data for message in SseDecoder().decode(self._stream)]
        events = [dict(chat_wire.DONE) if text == "[DONE]" else parse_json(text) for text in texts]
        good = [event for event in events if isinstance(event, dict)]
        whole = self.wire.fold(good)
        body = json.dumps(whole.body).encode()
        if len(good) < len(events) or not whole.is_whole:
            body = body[: len(body) // 2]
        if self.is_head_sent:
            await super().send(body)
            await super().finish()
        else:
            await self.answer(whole.status, body)
