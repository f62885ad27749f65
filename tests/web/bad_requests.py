"""The table of bad requests: what is sent, and the status, code and place of the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from broadcaster.errors import QueueFull, StopNotDurable, StopPending, TenantLimit
from tests.support.memory.memory_world import MemoryWorld

MARK = "mark-7f3a9e51"
"""Stands in every request: in its keys, its URL, and in the body's values wherever there is one."""
WRONG_WORD = f"not '{MARK}'"
"""An error names a word that is not among the allowed ones, and repeats nothing else of a request."""

MAX_BODY_BYTES = 2**20
KNOWN = "gen_known"
JSON = {"content-type": "application/json"}

GENERATIONS = "/v1/generations"
CREATE = "POST /v1/generations"
LIST = "GET /v1/generations"
READ_ONE = "GET /v1/generations/{generation_id}"
DELETE = "DELETE /v1/generations/{generation_id}"
STOP = "POST /v1/generations/{generation_id}/stop"
FOLLOW = "GET /v1/streams/{stream_id}/events"
FEED = "PUT /v1/streams/{stream_id}"
APPEND = "POST /v1/streams/{stream_id}/events"
CLOSE = "POST /v1/streams/{stream_id}/close"


@dataclass(frozen=True)
class Bad:
    """One bad request. ``place`` is a JSON pointer or a parameter's name; ``route`` None: no route is reached."""

    name: str
    route: str | None
    status: int
    code: str
    place: str | None = None
    method: str = "GET"
    path: str = GENERATIONS
    content: bytes | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    before: Mapping[str, Any] | None = None  # a good create, sent first with the same headers
    prepare: Callable[[MemoryWorld], None] = lambda world: None

    @property
    def url(self) -> str:
        return f"{self.path}{'&' if '?' in self.path else '?'}seen={MARK}"


def _create(name: str, content: bytes, place: str | None = "#", **changes: Any) -> Bad:
    row: dict[str, Any] = {"status": 400, "code": "invalid_request", "headers": JSON, **changes}
    return Bad(name, CREATE, method="POST", content=content, place=place, **row)


def _body(name: str, place: str, **fields: Any) -> Bad:
    return _create(name, json.dumps({"metadata": {"m": MARK}, **fields}).encode(), place)


def _bad(name: str, place: str, *messages: Any) -> Bad:
    return _body(name, place, messages=list(messages))


def bodies() -> Iterator[Bad]:
    """JSON that is no generation."""
    user = {"role": "user", "content": MARK}
    yield _create("no body", b"")
    yield _body("nothing asked", "#")
    yield _body("asked in both ways", "#", prompt=MARK, messages=[user])
    yield _body("an empty prompt", "#/prompt", prompt="")
    yield _body("a prompt that is a number", "#/prompt", prompt=5)
    yield _body("a prompt that is null beside nothing", "#", prompt=None)
    yield _body("no message", "#/messages", messages=[])
    yield _body("messages that are no list", "#/messages", messages=user)
    yield _body("too many messages", "#/messages", messages=[{"role": "user", "content": ""}] * 10_001)
    yield _bad("a message that is null", "#/messages/0", None)
    yield _bad("a message that is text", "#/messages/1", user, MARK)
    yield _bad("a wrong role", "#/messages/0/role", {"role": MARK, "content": "a"})
    yield _bad("no role", "#/messages/0/role", {"content": MARK})
    yield _bad("no content", "#/messages/0/content", {"role": "user"})
    yield _bad("content that is a number", "#/messages/0/content", {"role": "user", "content": 5})
    yield _bad("content that is null", "#/messages/0/content", {"role": "user", "content": None})
    yield _bad("content that is an object", "#/messages/0/content", {"role": "user", "content": {"type": "text"}})
    yield _bad("a part without a type", "#/messages/0/content/0/type", {"role": "user", "content": [{"text": MARK}]})
    yield _bad("a part that is null", "#/messages/0/content/0", {"role": "user", "content": [None]})
    yield _bad("a part of an empty type", "#/messages/0/content/0/type", {"role": "user", "content": [{"type": ""}]})
    yield _bad("an unknown field of a message", "#/messages/0/name", {**user, "name": MARK})
    for name, value in {"text": "5", "zero": 0, "a fraction": 1.5, "true": True, "a bomb": 10**30}.items():
        yield _body(f"max_tokens that is {name}", "#/max_tokens", prompt=MARK, max_tokens=value)
    yield _body("a temperature beyond all models", "#/temperature", prompt=MARK, temperature=2.1)
    yield _body("a temperature that is text", "#/temperature", prompt=MARK, temperature="hot")
    yield _body("a system prompt that is a number", "#/system", prompt=MARK, system=1)
    yield _body("tools that are text", "#/tools", prompt=MARK, tools=MARK)
    yield _body("a tool that is text", "#/tools/0", prompt=MARK, tools=[MARK])
    yield _body("no step at all", "#/max_steps", prompt=MARK, max_steps=0)
    yield _body("too many tools", "#/tools", prompt=MARK, tools=[{}] * 257)
    yield _body("metadata that is a list", "#/metadata", prompt=MARK, metadata=[MARK])
    yield _body("an unknown way to lose a worker", "#/on_worker_loss", prompt="a", on_worker_loss=MARK)
    yield _body("an unknown way to be abandoned", "#/on_abandon", prompt="a", on_abandon=MARK)
    yield _body("retention that is zero", "#/retention_s", prompt="a", retention_s=0)
    yield _body("retention for ever", "#/retention_s", prompt="a", retention_s=1e12)
    yield _body("stream that is text", "#/stream", prompt="a", stream=MARK)
    yield _body("a model that is an object", "#/model", prompt="a", model={"key": MARK})
    yield _body("a model without a name", "#/model", prompt="a", model="")
    yield _body("an endless model", "#/model", prompt="a", model="m" * 201)
    yield _body("an unknown field", "#/extra", prompt="a", extra=MARK)
    yield _body("an unknown field that a pointer must escape", "#/a~1b~0c", prompt="a", **{"a/b~c": MARK})
    unknown = json.dumps({"prompt": "a", "model": MARK}).encode()
    yield _create("a model no route serves", unknown, None, code="unknown_model")


def texts() -> Iterator[Bad]:
    """Bodies that are no JSON, or none that can be kept."""
    mark = MARK.encode()
    yield _create("text", b'"' + mark + b'"')
    yield _create("a list", b'["' + mark + b'"]')
    yield _create("null", b"null")
    yield _create("a number", b"5")
    yield _create("half an object", b'{"prompt": "' + mark)
    yield _create("two values", b'{"prompt": "' + mark + b'"} {}')
    yield _create("single quotes", b"{'prompt': '" + mark + b"'}")
    yield _create("a form", b"prompt=" + mark)
    yield _create("a byte order mark", b'\xef\xbb\xbf{"prompt": "' + mark + b'"}')
    yield _create("no UTF-8", b'{"prompt": "' + mark + b'\xff"}')
    yield _create("UTF-16", json.dumps({"prompt": MARK}).encode("utf-16"))
    yield _create("a control character", b'{"prompt": "' + mark + b'\x00"}')
    yield _create("a member twice", b'{"prompt": "a", "prompt": "' + mark + b'"}')
    yield _create("a member twice, deep inside", b'{"prompt": "a", "metadata": {"a": [{"b": 1, "b": 2}]}}')
    yield _create("NaN", b'{"prompt": "a", "temperature": NaN}')
    yield _create("Infinity", b'{"prompt": "a", "metadata": {"a": -Infinity}}')
    yield _create("a number beyond all floats", b'{"prompt": "a", "metadata": {"a": 1e999}}')
    yield _create("a number of 5000 digits", b'{"prompt": "a", "max_tokens": ' + b"1" * 5000 + b"}")
    yield _create("a lone surrogate", b'{"prompt": "\\ud800"}')
    yield _create("a lone surrogate in a name", b'{"prompt": "a", "metadata": {"\\udfff": 1}}')
    for depth in (1_000, 90_000):
        nested = b"[" * depth + b"]" * depth
        yield _create(f"{depth} lists in one another", b'{"prompt": "a", "metadata": {"a": ' + nested + b"}}")
    objects = b'{"a":' * 45_000 + b"1" + b"}" * 45_000
    yield _create("45 000 objects in one another", b'{"prompt": "a", "metadata": ' + objects + b"}")


def kinds_and_sizes() -> Iterator[Bad]:
    """Bodies of another kind, or too large."""
    good = json.dumps({"prompt": MARK}).encode()
    wrong: dict[str, Any] = {"status": 415, "code": "unsupported_media_type"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", "json"):
        yield _create(f"a body of kind {kind!r}", good, None, headers={"content-type": kind}, **wrong)
    yield _create("a body of no kind", good, None, headers={}, **wrong)
    yield _create("a compressed body", good, None, headers={**JSON, "content-encoding": "gzip"}, **wrong)
    large = b" " * (MAX_BODY_BYTES + 1)
    yield _create("a body over the limit", large, None, status=413, code="body_too_large")
    values = b'{"prompt": "a", "metadata": {"a": [' + b"{}," * 100_000 + b"{}]}}"
    yield _create("a body of too many values", values, None, status=413, code="too_many_values")
    yield Bad("a stop with a body of another kind", STOP, method="POST", path=f"{GENERATIONS}/{KNOWN}/stop",
              content=good, headers={"content-type": "text/plain"}, **wrong)  # fmt: skip


def headers() -> Iterator[Bad]:
    """Keys and cursors in headers."""
    good = json.dumps({"prompt": MARK}).encode()
    key = "idempotency-key"
    for name, value in {"empty": "", "too long": "k" * 300, "not ASCII": "schlüssel".encode()}.items():
        yield _create(f"a key that is {name}", good, key, headers={**JSON, key: value})
    repeated = {**JSON, key: "once"}
    yield _create("a key with another body", good, None, headers=repeated, before={"prompt": "first"},
                  status=422, code="idempotency_mismatch")  # fmt: skip
    for name, cursor in {
        "letters": "abc", "one number": "5", "negative": "-1-5", "a negative seq": "1--5", "two dashes": "1-2-3",
        "a leading zero": "01-1", "a sign": "+1-1", "a dot": "1.0-1", "a space inside": "1 -1", "no epoch": "-1",
        "no seq": "1-", "over 64 bits": f"{2**64}-1", "too long": "1" * 64 + "-" + "1" * 64, "a comma": "1-1,1-2",
        "not ASCII": "é", "other digits": "١-١",
    }.items():  # fmt: skip
        path = f"/v1/streams/{KNOWN}/events"
        header = {"last-event-id": cursor.encode()}
        yield Bad(f"Last-Event-ID of {name}", FOLLOW, 400, "bad_cursor", path=path, headers=header)
        yield Bad(f"after of {name}", FOLLOW, 400, "bad_cursor", path=f"{path}?after={_quoted(cursor)}")
    for name, cursor in {"NUL": "%00", "a line break": "1-1%0A", "no UTF-8": "%ff"}.items():
        yield Bad(f"after of {name}", FOLLOW, 400, "bad_cursor", path=f"/v1/streams/{KNOWN}/events?after={cursor}")


def queries() -> Iterator[Bad]:
    """Query values that mean nothing."""
    for value in ("abc", "-1", "inf", "nan", "1e999", "", "1,5", "0x10"):
        for route, method, path in (
            (READ_ONE, "GET", f"{GENERATIONS}/{KNOWN}"),
            (FOLLOW, "GET", f"/v1/streams/{KNOWN}/events"),
        ):
            yield Bad(
                f"{path} waits {value!r}", route, 400, "invalid_request", "wait_s", method, f"{path}?wait_s={value}"
            )
        yield _create(f"a create waits {value!r}", b'{"prompt":"a"}', "wait_s", path=f"{GENERATIONS}?wait_s={value}")
    stream = b'{"prompt": "a", "stream": true}'
    yield _create("a stream that is waited for", stream, "wait_s", path=f"{GENERATIONS}?wait_s=1")
    known = f"{GENERATIONS}/{KNOWN}"
    events = f"/v1/streams/{KNOWN}/events"
    for route, place, path in (
        (READ_ONE, "parts", f"{known}?parts=maybe"),
        (READ_ONE, "parts", f"{known}?parts={MARK}"),
        (FOLLOW, "replay", f"{events}?replay=all"),
        (FOLLOW, "replay", f"{events}?replay={MARK}"),
        (FOLLOW, "replay", f"{events}?replay="),
        (LIST, "limit", f"{GENERATIONS}?limit=0"),
        (LIST, "limit", f"{GENERATIONS}?limit=-1"),
        (LIST, "limit", f"{GENERATIONS}?limit=101"),
        (LIST, "limit", f"{GENERATIONS}?limit={MARK}"),
        (LIST, "limit", f"{GENERATIONS}?limit=1.5"),
        (LIST, "status", f"{GENERATIONS}?status={MARK}"),
        (LIST, "status", f"{GENERATIONS}?status="),
        (LIST, "before", f"{GENERATIONS}?before={MARK}"),
        (LIST, "before", f"{GENERATIONS}?before=-1"),
        (LIST, "before", f"{GENERATIONS}?before={'9' * 40}"),
        (LIST, "before", f"{GENERATIONS}?before=1%0A"),
    ):
        yield Bad(f"{place} in {path}", route, 400, "invalid_request", place, path=path)
    yield Bad("an unknown dialect", FOLLOW, 400, "unknown_dialect", path=f"{events}?dialect={MARK}")
    yield Bad("no dialect", FOLLOW, 400, "unknown_dialect", path=f"{events}?dialect=")


def places() -> Iterator[Bad]:
    """Ids and paths under which there is nothing."""
    routes = (
        (READ_ONE, "GET", "/v1/generations/{}"),
        (DELETE, "DELETE", "/v1/generations/{}"),
        (STOP, "POST", "/v1/generations/{}/stop"),
        (FOLLOW, "GET", "/v1/streams/{}/events"),
    )
    for route, method, path in routes:
        for id in (
            f"gen_{MARK}",
            "{jobs}",
            "a%7Bb%7D",
            "%00",
            "a%0Ab",
            "%20",
            "%ff",
            "x" * 300,
            "%C3%A9",
            "*",
            "a:b%25",
        ):
            yield Bad(f"{route} of {id[:20]}", route, 404, "unknown_stream", method=method, path=path.format(id))
        slashed = path.format(f"a%2F{MARK}")
        yield Bad(f"{route} of an id with a slash", None, 404, "not_found", method=method, path=slashed)
    for path in ("/v1/streams/", "/v2/generations", "/v1/generations/", f"/{MARK}", "/console/..%2fapp.py", "/%00"):
        yield Bad(f"nothing at {path}", None, 404, "not_found", path=path)
    for method, path in (
        ("PUT", GENERATIONS), ("DELETE", GENERATIONS), ("PATCH", f"{GENERATIONS}/{KNOWN}"),
        ("POST", f"{GENERATIONS}/{KNOWN}"), ("GET", f"{GENERATIONS}/{KNOWN}/stop"), ("POST", "/healthz"),
        ("PATCH", f"/v1/streams/{KNOWN}/events"), ("TRACE", GENERATIONS), ("OPTIONS", GENERATIONS),
    ):  # fmt: skip
        yield Bad(f"{method} {path}", None, 405, "method_not_allowed", method=method, path=path)
    yield Bad("another host", LIST, 403, "forbidden_host", headers={"host": f"{MARK}.example"})
    yield Bad("another host of the health", "GET /healthz", 403, "forbidden_host", path="/healthz",
              headers={"host": f"{MARK}.example"})  # fmt: skip
    yield Bad("another origin", LIST, 403, "forbidden_origin", headers={"origin": f"https://{MARK}.example"})


def feeds() -> Iterator[Bad]:
    """Bodies that are no JSON of one meaning, at every route of a feed that takes one."""
    stream = f"/v1/streams/{KNOWN}"
    for route, path in ((FEED, stream), (APPEND, f"{stream}/events"), (CLOSE, f"{stream}/close")):
        for name, content in (
            ("a member twice", b'{"type": "data-a", "data": 1, "data": 2}'),
            ("UTF-16", '{"type": "data-a", "data": 1}'.encode("utf-16")),
            ("nesting", b'{"type": "data-a", "data": ' + b"[" * 90_000),
            ("half a body", b'{"type": "data-a"'),
        ):
            yield Bad(
                f"{route}: {name}", route, 400, "invalid_request", "#",
                method=route.split()[0], path=path, content=content, headers=JSON,
            )  # fmt: skip


def troubles() -> Iterator[Bad]:
    """Requests that are right, at a wrong time."""
    good = json.dumps({"prompt": MARK}).encode()
    yield _create("a create at a full queue", good, None, status=503, code="queue_full", prepare=_full)
    yield _create("a create of a tenant whose share waits", good, None, status=429, code="tenant_limit", prepare=_share)
    away: dict[str, Any] = {"status": 503, "code": "log_unavailable", "prepare": _away}
    yield _create("a create without Redis", good, None, **away)
    yield Bad("a list without Redis", LIST, **away)
    yield Bad("a look without Redis", READ_ONE, path=f"{GENERATIONS}/{KNOWN}", **away)
    yield Bad("a wait without Redis", READ_ONE, path=f"{GENERATIONS}/{KNOWN}?wait_s=1", **away)
    yield Bad("a stop without Redis", STOP, method="POST", path=f"{GENERATIONS}/{KNOWN}/stop", **away)
    yield Bad("a deletion without Redis", DELETE, method="DELETE", path=f"{GENERATIONS}/{KNOWN}", **away)
    yield Bad("a stop at a full Redis", STOP, 503, "stop_not_durable", method="POST",
              path=f"{GENERATIONS}/{KNOWN}/stop", prepare=_not_durable)  # fmt: skip
    yield Bad("a deletion of what does not end", DELETE, 503, "stop_pending", method="DELETE",
              path=f"{GENERATIONS}/{KNOWN}", prepare=_pending)  # fmt: skip


def _away(world: MemoryWorld) -> None:
    world.away = True


def _full(world: MemoryWorld) -> None:
    world.refusal = QueueFull("as many generations wait as the settings allow; try again later")


def _share(world: MemoryWorld) -> None:
    world.refusal = TenantLimit("as many generations of this tenant wait as TENANT_QUEUED allows", retry_after_s=5)


def _not_durable(world: MemoryWorld) -> None:
    world.refusal = StopNotDurable("the worker was told, but Redis could not store the stop; repeat it")


def _pending(world: MemoryWorld) -> None:
    world.refusal = StopPending("it is being stopped but has not ended yet; repeat the deletion")


def _quoted(cursor: str) -> str:
    return "".join(f"%{byte:02X}" for byte in cursor.encode())


TABLE = [
    *bodies(), *texts(), *kinds_and_sizes(), *headers(), *queries(), *places(), *feeds(), *troubles(),
]  # fmt: skip
