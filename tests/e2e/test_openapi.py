"""What a front-end answers is what its OpenAPI document promises."""

from __future__ import annotations

import asyncio
import json

import pytest

from broadcaster.testing import Script, ScriptedProvider
from tests.e2e.openapi_contract import Contract
from tests.support.servers.processes import Stack

EXAMPLES = 5


@pytest.mark.timeout(300)  # hundreds of requests, some of which wait for an answer
async def test_every_answer_to_drawn_requests_fits_the_openapi_document(
    stack: Stack, scripted: ScriptedProvider
) -> None:
    scripted.script("claude-scripted", Script.of_text("hello"))
    # The document's examples use models of both vendors; a provider without a key would refuse them.
    routes = json.dumps({"gpt-*": "anthropic", "claude*": "anthropic", "local": "local"})
    await stack.worker(routes=routes)
    front_end = await stack.front_end(long_poll_timeout_s=1, routes=routes)
    contract = await asyncio.to_thread(Contract, front_end.url, examples=EXAMPLES)
    assert await asyncio.to_thread(lambda: list(contract.findings())) == []
    print(contract.answers)
    # What the document gives as an example is accepted, and what exists is found.
    assert contract.answers.keys() >= {
        *("create_generation 202", "append_events 200", "create_chat_completion 200", "create_message 200"),
        *("ai_sdk_send 200", "get_generation 200", "get_stream 200", "get_response 200"),
    }
