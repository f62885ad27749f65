"""The worst request bodies: ``python -m tests.attacks.bodies [--mounted]`` posts each to a real front-end.

Every body is as large as MAX_BODY_BYTES lets it be. ``over`` hold more values than MAX_BODY_VALUES; ``below`` hold just
as many as are taken, in long and in short form, valid or not.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from broadcaster.settings import Settings
from tests.attacks.measuring import costs, exchange, opened, port_of
from tests.support.log.valkey import start_valkey

_BYTES = Settings.model_fields["max_body_bytes"].default - 512
_VALUES = Settings.model_fields["max_body_values"].default - 64
_MESSAGES = [{"role": "user", "content": "Hi"}]
_MODEL = {"model": "local", "max_tokens": 9, "stream": True}
_CHAT = {"id": "chat", "messages": [{"id": "m", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}]}
_RUN = {"threadId": "t", "runId": "r", "tools": [], "context": [], "state": {}, "forwardedProps": {}}
_PLACE = '"here"'


class Attack(NamedTuple):
    """One body, and where it is sent; ``path`` begins with a slash."""

    name: str
    method: str
    path: str
    body: bytes
    media_type: str = "application/json"


def attacks() -> Iterator[Attack]:
    """Every body, for every route that reads one."""
    yield from _over()
    yield from _below()
    yield from _in_arguments()
    yield from _passed()
    yield from _not_json()


def _over() -> Iterator[Attack]:
    yield Attack("over: empty parts", "POST", "/v1/generations", _filled(_message("here"), "{}"))
    yield Attack("over: valid parts", "POST", "/v1/generations", _filled(_message("here"), '{"type":"a"}'))
    bad = _list("{}", 180 * 40, most=_BYTES)
    messages = _list('{"role":"user","content":' + _list("{}", 540, most=_BYTES) + "}", _BYTES)
    yield Attack("over: messages of bad parts", "POST", "/v1/generations", _in({"messages": "here"}, messages))
    yield Attack("over: unknown members", "POST", "/v1/generations", _members(_BYTES))
    yield Attack("over: metadata", "POST", "/v1/generations", _filled({"prompt": "a", "metadata": {"a": "here"}}, "{}"))
    for kind, item in (("items", _json(_MESSAGES[0])), ("bad items", "{}")):
        yield Attack(
            f"over: {kind}",
            "POST",
            "/v1/responses",
            _filled({"model": "local", "background": True, "input": "here"}, item),
        )
    parts = {**_CHAT, "messages": [{"id": "m", "role": "user", "parts": "here"}]}
    yield Attack("over: bad parts", "POST", "/api/chat", _filled(parts, "{}"))
    yield Attack("over: a thousand events", "POST", "/v1/streams/none/events", _events(bad))
    for path in ("/v1/chat/completions", "/v1/messages"):
        yield Attack("over: messages", "POST", path, _filled({**_MODEL, "messages": "here"}, _json(_MESSAGES[0])))
        yield Attack("over: parts", "POST", path, _filled({**_MODEL, **_message("here")}, '{"type":"text","text":"a"}'))
    run = {**_RUN, "messages": [{"id": "m", "role": "user", "content": "here"}]}
    yield Attack("over: parts", "POST", "/agui", _filled(run, '{"type":"text","text":"a"}'))
    yield Attack("over: metadata", "PUT", "/v1/streams/none", _filled({"metadata": {"a": "here"}}, "{}"))


def _below() -> Iterator[Attack]:
    text, empty = '{"type":"text","text":"' + "a" * 80 + '"}', "{}"
    for kind, part in (("parts", text), ("empty parts", empty), ("parts of one letter", '{"type":"a"}')):
        yield Attack(f"below: {kind}", "POST", "/v1/generations", _counted(_message("here"), part))
        for path in ("/v1/chat/completions", "/v1/messages"):
            yield Attack(f"below: {kind}", "POST", path, _counted({**_MODEL, **_message("here")}, part))
        background = {"model": "local", "background": True, "input": [{"role": "user", "content": "here"}]}
        yield Attack(
            f"below: {kind}", "POST", "/v1/responses", _counted(background, part.replace("text", "input_text", 1))
        )
        sent = {**_CHAT, "messages": [{"id": "m", "role": "user", "parts": "here"}]}
        yield Attack(f"below: {kind}", "POST", "/api/chat", _counted(sent, part))
        run = {**_RUN, "messages": [{"id": "m", "role": "user", "content": "here"}]}
        yield Attack(f"below: {kind}", "POST", "/agui", _counted(run, part))
    item = _json(_MESSAGES[0])
    yield Attack(
        "below: items", "POST", "/v1/responses", _counted({"model": "local", "background": True, "input": "here"}, item)
    )
    called = {"role": "assistant", "content": None, "tool_calls": "here"}
    call = '{"id":"a","type":"function","function":{"name":"a","arguments":"{\\"a\\":1}"}}'
    body = {**_MODEL, "messages": [*_MESSAGES, called]}
    yield Attack("below: calls", "POST", "/v1/chat/completions", _counted(body, call))
    run = {**_RUN, "messages": [{"id": "m", **_MESSAGES[0]}]}
    holders: Mapping[str, Mapping[str, Any]] = {"/v1/generations": _message("Hi"), "/api/chat": _CHAT, "/agui": run}
    for path, holder in holders.items():
        yield Attack("below: tools of numbers", "POST", path, _counted({**holder, "tools": "here"}, "1"))
    stopping: Mapping[str, Mapping[str, Any]] = {"/v1/messages": {**_MODEL, **_message("Hi")}, "/api/chat": _CHAT}
    for path, holder in stopping.items():
        name = "stopSequences" if path == "/api/chat" else "stop_sequences"
        yield Attack("below: stops", "POST", path, _counted({**holder, name: "here"}, '"a"'))
        yield Attack("below: stops of numbers", "POST", path, _counted({**holder, name: "here"}, "1"))
    schema = {**_MODEL, "messages": _MESSAGES, "tools": [{"name": "a", "input_schema": {"a": "here"}}]}
    yield Attack("below: a schema", "POST", "/v1/generations", _counted({**schema, "model": "local"}, "[]"))
    for path in ("/v1/generations", "/api/chat"):
        yield Attack("below: unknown members", "POST", path, _members(_BYTES, most=_VALUES))
    message = {"messages": "here"}
    yield Attack(
        "below: a message of unknown members", "POST", "/v1/generations",
        _in(message, "[" + _members(_BYTES, most=_VALUES).decode() + "]"),
    )  # fmt: skip
    yield Attack(
        "below: metadata", "POST", "/v1/generations", _counted({"prompt": "a", "metadata": {"a": "here"}}, "{}")
    )
    yield Attack("below: metadata", "PUT", "/v1/streams/none", _counted({"metadata": {"a": "here"}}, "{}"))
    yield Attack("below: a thousand events", "POST", "/v1/streams/none/events", _events(_list("[]", 90, most=4000)))
    yield Attack(
        "below: one event", "POST", "/v1/streams/none/events", _counted({"type": "data-a", "data": "here"}, "[]")
    )
    yield Attack("below: an end", "POST", "/v1/streams/none/close", _counted({"type": "finish", "a": "here"}, "1.5"))


def _in_arguments() -> Iterator[Attack]:
    """Bodies of few values, which are full of values in the texts of their calls."""
    kinds = {"one call": _BYTES - 2048, "many calls": 4096}
    for kind, size in kinds.items():
        text = '{"a":' + _list("[]", size, most=size) + "}"
        count = (_BYTES - 1024) // (size + 300)
        ids = [f"{at}" for at in range(max(1, count))]
        functions = [{"id": id, "type": "function", "function": {"name": "f", "arguments": text}} for id in ids]
        messages = [*_MESSAGES, {"role": "assistant", "content": None, "tool_calls": functions}]
        yield _sent(f"values in {kind}", "/v1/chat/completions", {**_MODEL, "messages": messages})
        items = [{"type": "function_call", "call_id": id, "name": "f", "arguments": text} for id in ids]
        input = [*_MESSAGES, *items]
        yield _sent(f"values in {kind}", "/v1/responses", {"model": "local", "background": True, "input": input})
        results = [{"id": f"r{id}", "role": "tool", "toolCallId": id, "content": ""} for id in ids]
        run = [{"id": "m", "role": "assistant", "toolCalls": functions}, *results]
        yield _sent(f"values in {kind}", "/agui", {**_RUN, "messages": run})


def _sent(name: str, path: str, body: dict[str, Any]) -> Attack:
    return Attack(name, "POST", path, _json(body).encode())


def _passed() -> Iterator[Attack]:
    """Bodies of calls whose text is stored as it is: to a provider, or into a Durable Stream."""
    model = {"model": "local", "stream": True}
    calls: Mapping[str, dict[str, Any]] = {
        "/v1/completions": {**model, "prompt": "here"},
        "/v1/embeddings": {"model": "local", "input": "here"},
        "/v1/messages/count_tokens": {"model": "local", "messages": "here"},
        "/v1/responses/input_tokens": {"model": "local", "input": "here"},
    }
    for path, holder in calls.items():
        for kind, item in (("empty parts", "{}"), ("texts", '"a"'), ("messages", _json(_MESSAGES[0]))):
            yield Attack(f"over: {kind}", "POST", path, _filled(holder, item))
            yield Attack(f"below: {kind}", "POST", path, _counted(holder, item))
        yield Attack("prose", "POST", path, _in(holder, _prose()))
    for method in ("PUT", "POST"):
        path = "/ds/none"
        yield Attack("over: messages", method, path, _list("{}", _BYTES).encode())
        yield Attack("below: messages", method, path, _list("[]", _VALUES).encode())
        yield Attack("below: a thousand messages", method, path, _list(_list("[]", 90), 1000).encode())
        yield Attack("below: one message", method, path, ("[" + _list("[]", _VALUES - 9) + "]").encode())
        yield Attack("white space", method, path, b"[" + b" " * (_BYTES - 8) + b"1]")
        yield Attack("prose", method, path, ("[" + _prose() + "]").encode())
        for media_type in ("text/plain", "application/octet-stream"):
            for kind, text in (("letters", b"a"), ("control characters", b"\x01"), ("no UTF-8", b"\x80")):
                yield Attack(f"{media_type}: {kind}", method, f"/ds/{media_type[:4]}", text * _BYTES, media_type)


def _not_json() -> Iterator[Attack]:
    for name, body in (
        ("brackets", b"[" * _BYTES),
        ("quotes", b'"' * _BYTES),
        ("commas", b"," * _BYTES),
        ("a text without an end", b'{"prompt":"' + b"a" * _BYTES),
        ("escaped quotes", b'{"prompt":"' + b'\\"' * (_BYTES // 2)),
        ("long numbers", _counted({"prompt": "a", "metadata": {"a": "here"}}, "9" * 4299)),
        ("a long fraction", b'{"temperature":0.' + b"1" * _BYTES + b"}"),
        ("surrogates", b'{"prompt":"' + b"\\ud83d\\ude00" * (_BYTES // 12) + b'"}'),
    ):
        yield Attack(name, "POST", "/v1/generations", body)
    yield Attack(
        "prose", "POST", "/v1/chat/completions", _in({**_MODEL, "messages": _MESSAGES, "user": "here"}, _prose())
    )


def _message(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _in(holder: dict[str, Any], text: str) -> bytes:
    return _json(holder).replace(_PLACE, text, 1).encode()


def _list(item: str, count: int, *, most: int = _BYTES) -> str:
    """A list of so many, or of as many as fit into ``most`` bytes."""
    count = min(count, most // (len(item) + 1))
    return "[" + ",".join([item] * count) + "]"


def _filled(holder: dict[str, Any], item: str) -> bytes:
    return _in(holder, _list(item, _BYTES))


def _counted(holder: dict[str, Any], item: str) -> bytes:
    """As many items as MAX_BODY_VALUES allows beside the holder, in at most MAX_BODY_BYTES."""
    each = sum(map(item.count, ",:{[")) + 1 - item.count("{}") - item.count("[]")
    return _in(holder, _list(item, _VALUES // each - 100))


def _members(size: int, *, most: int | None = None) -> bytes:
    count = size // 12 if most is None else most // 2
    return _json({f"k{at:06}": 1 for at in range(count)}).encode()


def _events(data: str) -> bytes:
    return _list('{"type":"data-a","data":' + data + "}", 1000).encode()


def _prose() -> str:
    return _json("It is said, and it is true: some text has commas. " * (_BYTES // 52))


def request_of(attack: Attack, *, prefix: str = "") -> bytes:
    """The request's bytes; it closes its connection."""
    head = f"{attack.method} {prefix}{attack.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {attack.media_type}\r\n"
    return f"{head}connection: close\r\ncontent-length: {len(attack.body)}\r\n\r\n".encode() + attack.body


async def _report(*, is_mounted: bool) -> None:
    with TemporaryDirectory() as folder, start_valkey(Path(folder)) as valkey:
        async with opened(Path(folder), redis_url=valkey.url, is_mounted=is_mounted) as (running, prefix):
            for attack in attacks():
                if is_mounted and attack.path.startswith("/ds/"):
                    continue  # no router serves them
                async with costs(running) as cost:
                    status = await exchange(port_of(running), request_of(attack, prefix=prefix))
                print(
                    f"{attack.path:24} {attack.name:36} {len(attack.body) / 2**20:4.1f} MB  {status}  "
                    f"waited {cost.wait_s * 1000:6.0f} ms  cpu {cost.cpu_s * 1000:6.0f} ms  "
                    f"+{cost.grown_bytes / 2**20:5.0f} MB",
                    flush=True,
                )


if __name__ == "__main__":
    asyncio.run(_report(is_mounted="--mounted" in sys.argv))
