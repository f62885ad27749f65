"""What callers give in confidence stands in no line of a front-end's log, whatever becomes of the call."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from broadcaster.web.services import Services
from tests.support.memory.memory_world import MemoryWorld
from tests.support.servers.front_end import listen, own_app, served

SECRET = "secret-7f3a9e51"
KEY = f"{SECRET}-key-0123456789"
HEADERS = {"authorization": f"Bearer {KEY}"}
MESSAGE = {"role": "user", "content": f"{SECRET}-prompt"}

CALLS: list[tuple[str, str, Any]] = [
    ("POST", "/v1/generations", {"prompt": f"{SECRET}-prompt", "metadata": {"a": f"{SECRET}-metadata"}}),
    ("POST", "/v1/generations", {"prompt": 5, "messages": f"{SECRET}-of-an-invalid-body"}),
    ("POST", "/v1/generations", {"prompt": "x", "webhook": {"url": f"https://h.example/{SECRET}?t={SECRET}"}}),
    ("POST", "/v1/chat/completions", {"model": f"{SECRET}-model", "messages": [MESSAGE]}),
    ("POST", "/v1/messages", {"model": "local", "max_tokens": 1, "system": f"{SECRET}-system", "messages": []}),
    ("POST", "/v1/responses", {"model": "local", "input": f"{SECRET}-input", "background": True}),
    ("PUT", "/v1/streams/job-1", {"metadata": {"a": f"{SECRET}-metadata"}}),
    ("POST", "/v1/streams/job-1/events", {"type": "data-x", "data": f"{SECRET}-event"}),
    ("POST", "/v1/streams/job-1/events", {"type": f"{SECRET}-type"}),
    ("GET", f"/v1/generations?key={SECRET}", None),
    ("GET", f"/v1/streams/gen_1/events?token={SECRET}&after=0-0", None),
    ("GET", f"/v1/streams/gen_2/events?token={SECRET}", None),
    ("GET", f"/nothing-here?token={SECRET}", None),
]


async def test_no_key_prompt_event_or_path_of_a_webhook_is_in_the_log(
    services: Services, world: MemoryWorld, caplog: pytest.LogCaptureFixture
) -> None:
    keys = json.dumps({"local": [KEY]})
    app = own_app(services, auth="keys", api_keys=keys)
    world.add("gen_1", request={"messages": [MESSAGE]})
    world.append_raw("gen_1", b'{"type":"text-delta","id":"0","delta":"%s-answer"}' % SECRET.encode())
    world.append_raw("gen_1", b'{"type":"finish"}')
    with caplog.at_level(logging.DEBUG):
        async with served(app, services) as http:
            for refusal in (None, RuntimeError("a defect")):
                world.refusal = refusal
                for method, url, body in CALLS:
                    response = await http.request(method, url, json=body, headers=HEADERS)
                    assert response.status_code < 500 or refusal is not None
            world.refusal = None
            wrong = {"x-api-key": f"{SECRET}-nobody-has-this"}
            assert (await http.get("/v1/generations", headers=wrong)).status_code == 401
            await listen(http, "/v1/streams/gen_1/events", headers=HEADERS)
    result = "\n".join(f"{line.getMessage()} {line.exc_text}" for line in caplog.records if not _is_the_tests_own(line))
    assert "request_failed" in result  # the defects are there
    assert SECRET not in result


def _is_the_tests_own(line: logging.LogRecord) -> bool:
    return line.name.startswith(("httpx2", "httpcore2", "httpx", "httpcore"))
