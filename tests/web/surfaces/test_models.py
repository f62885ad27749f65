"""``/v1/models`` with the Anthropic SDK as the client, and HEAD; see test_openai_chat.py for the OpenAI SDK."""

from __future__ import annotations

import anthropic
import httpx2
import pytest

from tests.support.front_end import DEADLINE_S


async def test_the_anthropic_sdk_lists_and_looks_up_models(
    live_client: httpx2.AsyncClient, client: httpx2.AsyncClient
) -> None:
    known = [model["id"] for model in (await client.get("/v1/models")).json()["data"]]
    async with anthropic.AsyncAnthropic(
        base_url=str(live_client.base_url), api_key="any", max_retries=0, timeout=DEADLINE_S
    ) as sdk:
        page = await sdk.models.list(limit=1)
        one = await sdk.models.retrieve("claude-x")
        with pytest.raises(anthropic.NotFoundError) as caught:
            await sdk.models.retrieve("nobody")
    assert ([model.id for model in page.data], page.has_more) == (known, False)
    assert (page.first_id, page.last_id) == (known[0], known[-1])
    assert (one.type, one.id, one.display_name, one.created_at.year) == ("model", "claude-x", "claude-x", 1970)
    assert caught.value.type == "not_found_error"


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/v1/models", 200), ("/v1/models/local", 200), ("/v1/models/nobody", 404), ("/v1/messages", 405)],
)
async def test_head_answers_without_a_body(live_client: httpx2.AsyncClient, *, path: str, status: int) -> None:
    answer = await live_client.head(path)
    assert (answer.status_code, answer.content) == (status, b"")
    assert answer.headers.get("allow") == ("POST" if status == 405 else None)
