"""The model behind the scripted provider: it answers what a request demands, on any wire.

Rules, in this order
1. After the tool's result, the answer is ``ANSWER_TEXT``.
2. If the request wants an object, the answer is ``CITY``: as text, or as the call of the tool that stands for it.
3. If the tool ``get_weather`` is offered, it is called.
4. Otherwise the answer is ``TEXT``, a piece at a time.

An agent that ends by a tool ``final_answer`` gets its text as the arguments of that tool.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from broadcaster.testing import Exchange
from broadcaster.testing.responses_wire import ResponsesComposer

Json = dict[str, Any]

PROMPT: Final = "Why is the sea salty?"
PIECES: Final = ("The sea is salty ", "because rivers ", "carry minerals ", "into it.")
TEXT: Final = "".join(PIECES)
# A busy machine joins pieces that follow each other faster.
PIECE_EVERY_S: Final = 0.1

WEATHER_PROMPT: Final = "What is the weather in Paris?"
TOOL: Final = "get_weather"
ARGUMENTS: Final = ('{"city": ', '"Paris"}')
RESULT: Final = "21 degrees in Paris"
ANSWER_TEXT: Final = "It is warm there."

CITY_PROMPT: Final = "Give me a city and its temperature."
CITY: Final = {"city": "Paris", "temperature": 21}

FINAL_ANSWER: Final = "final_answer"


class Model:
    """A step of a script: the whole answer to one request."""

    async def run(self, exchange: Exchange) -> None:
        body = exchange.request.body
        composer = exchange.wire.compose(exchange.model)
        for part in self._parts(exchange, body):
            if isinstance(part, str):
                await exchange.send_events(*composer.text(part))
                await asyncio.sleep(PIECE_EVERY_S)
            else:
                await exchange.send_events(*composer.part(part))
        await exchange.send_events(*composer.finish())

    def _parts(self, exchange: Exchange, body: Json) -> list[Any]:
        names = _tool_names(body)
        if RESULT.encode() in exchange.request.raw_body:
            return _text(exchange, names, (ANSWER_TEXT,))
        if wants_object(body):
            return [json.dumps(CITY)]
        if stands_for_object := [name for name in names if name not in (TOOL, FINAL_ANSWER)]:
            call = exchange.wire.tool_call(stands_for_object[-1], json.dumps(CITY), id="call_city")
            return [call]
        if TOOL in names:
            return [exchange.wire.tool_call(TOOL, *ARGUMENTS, id="call_weather")]
        return _text(exchange, names, PIECES)


class Failing:
    """A step of a script: the first piece of the text, and the failure that the wire has for a broken answer."""

    async def run(self, exchange: Exchange) -> None:
        composer = exchange.wire.compose(exchange.model)
        await exchange.send_events(*composer.text(PIECES[0]))
        if isinstance(composer, ResponsesComposer):
            await exchange.send_events(*composer.finish_failed("server_error", "The server had an error"))
        else:
            await exchange.send_events(*composer.fail(exchange.wire.overloaded, "Overloaded"))


def wants_object(body: Json) -> bool:
    """Whether the request demands JSON as text, in the format of any of the wires."""
    formats = (body.get("response_format"), (body.get("text") or {}).get("format"))
    formats_wanted = (*formats, (body.get("output_config") or {}).get("format"))
    return any((each or {}).get("type") in ("json_schema", "json_object") for each in formats_wanted)


def _tool_names(body: Json) -> list[str]:
    tools = body.get("tools") or []
    return [tool.get("name") or (tool.get("function") or {}).get("name") or "" for tool in tools]


def _text(exchange: Exchange, names: list[str], pieces: tuple[str, ...]) -> list[Any]:
    if FINAL_ANSWER not in names:
        return [*pieces]
    return [exchange.wire.tool_call(FINAL_ANSWER, json.dumps({"answer": "".join(pieces)}), id="call_final")]
