"""Tokens on real processes: the worker counts what its provider reports, and the budget refuses the next generation."""

from __future__ import annotations

import asyncio
import json

import httpx2

from broadcaster.log.redis.connect import LogConnection
from tests.support.servers.processes import Stack

KEY = "a-key-with-a-budget"
DEADLINE_S = 20.0


async def test_what_a_worker_spends_is_counted_and_ends_the_budget(stack: Stack) -> None:
    await stack.worker()
    keys = json.dumps({"web": [{"key": KEY, "tokens_per_day": 1}]})
    front_end = await stack.front_end(auth="keys", api_keys=keys)
    async with (
        httpx2.AsyncClient(base_url=front_end.url, headers={"x-api-key": KEY}, timeout=DEADLINE_S) as client,
        asyncio.timeout(DEADLINE_S),
    ):
        answered = await client.post("/v1/generations?wait_s=15", json={"prompt": "hi"})
        assert (answered.status_code, answered.json()["status"]) == (200, "finished")
        while not (report := (await client.get("/v1/usage")).json())["usage"]:
            await asyncio.sleep(0.02)
        (row,) = report["usage"]
        reported = answered.json()["usage"]
        assert (row["input_tokens"], row["output_tokens"]) == (reported["inputTokens"], reported["outputTokens"])
        assert (row["model"], row["requests"], row["estimated_requests"]) == ("claude-scripted", 1, 0)
        assert report["budget"]["spent_today"] == row["input_tokens"] + row["output_tokens"] > 0
        refused = await client.post("/v1/generations", json={"prompt": "hi"})
        assert (refused.status_code, refused.json()["code"]) == (429, "budget_spent")
        assert 1 <= int(refused.headers["retry-after"]) <= 86_400


async def test_a_key_whose_answer_has_expired_buys_no_other_one(stack: Stack, connection: LogConnection) -> None:
    """An Idempotency-Key may outlive what it names: a meta expires an hour after its log, a key after a day."""
    await stack.worker()
    keys = json.dumps({"web": [{"key": KEY, "tokens_per_day": 1}]})
    front_end = await stack.front_end(auth="keys", api_keys=keys)
    headers = {"x-api-key": KEY, "idempotency-key": "paid-for"}
    async with (
        httpx2.AsyncClient(base_url=front_end.url, headers=headers, timeout=DEADLINE_S) as client,
        asyncio.timeout(DEADLINE_S),
    ):
        answered = await client.post("/v1/generations?wait_s=15", json={"prompt": "hi"})
        while not (await client.get("/v1/usage")).json()["usage"]:
            await asyncio.sleep(0.02)
        repeated = await client.post("/v1/generations?wait_s=15", json={"prompt": "hi"})
        assert (repeated.status_code, repeated.json()["id"]) == (200, answered.json()["id"])
        name = connection.keys
        await connection.redis.delete(name.meta(answered.json()["id"]))
        refused = await client.post("/v1/generations?wait_s=15", json={"prompt": "hi"})
        assert (refused.status_code, refused.json()["code"]) == (429, "budget_spent")
        (row,) = (await client.get("/v1/usage")).json()["usage"]
        assert row["requests"] == 1
