"""Every query of the Grafana dashboard has a result once each kind of event has happened, over real processes."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Final

import httpx2

from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.testing import Answer, Script, ScriptedProvider
from tests.e2e.observing.watched import Watched
from tests.support.servers.processes import Running, open_stack
from tests.support.servers.prometheus import Prometheus
from tests.support.servers.webhook_receiver import SECRET, open_receiver
from tests.support.watching import ids, watch

DASHBOARD: Final = Path(__file__).resolve().parents[3] / "deploy" / "grafana" / "broadcaster.json"
MODEL: Final = "claude-scripted"
FAILING: Final = "claude-failing"
# The time that a panel shows a rate of: as long as this test, so that no event falls out.
RATE_INTERVAL: Final = "2m"
DEADLINE_S: Final = 60.0


def queries() -> dict[str, str]:
    """Each query with its variables filled in, by panel and legend."""
    found = {}
    for panel in json.loads(DASHBOARD.read_text("utf-8"))["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$job", ".*").replace("$__rate_interval", RATE_INTERVAL)
            assert "$" not in query
            found[f"{panel['title']}: {target['legendFormat']}"] = query
    return found


async def test_every_panel_shows_what_happens(
    tmp_path: Path, connection: LogConnection, scripted: ScriptedProvider
) -> None:
    settings = {
        "webhook_hosts": "127.0.0.1:*",
        "webhook_secret": SECRET,
        "provider_retries": 0,
        "lease_ttl_s": 2,
    }
    async with (
        open_receiver() as receiver,
        open_stack(
            tmp_path, redis_url=connection.url, provider_url=scripted.base_url, default_model=MODEL, **settings
        ) as stack,
    ):
        watched = Watched(stack)
        front_end = await watched.front_end()
        await watched.worker()
        async with watched.prometheus(tmp_path / "prometheus") as prometheus:
            for _ in range(2):  # Prometheus sees no increase in a series that begins with 1
                await live_a_little(front_end, scripted, webhook=receiver.url)
                await until_scraped(prometheus)
            await until_all_have_data(prometheus)


async def live_a_little(front_end: Running, scripted: ScriptedProvider, *, webhook: str) -> None:
    """An answer that is watched, resumed and delivered, and one that reaches the limit of retries and fails."""
    conversation = scripted.conversation(MODEL)
    scripted.script(FAILING, Script(Answer(529)))
    async with AsyncClient(front_end.url) as client, httpx2.AsyncClient(base_url=front_end.url) as http:
        body = {"prompt": "hi", "webhook": {"url": webhook}}
        generation_id = (await http.post("/v1/generations", json=body)).json()["id"]
        await conversation.send_text("first")
        first = await watch(front_end.url, generation_id, until=lambda seen: "first" in seen.messages[-1].data)
        viewer = asyncio.create_task(watch(front_end.url, generation_id, after=ids(first)[0]))
        for number in range(5):
            await conversation.send_text(f" {number}")
            await asyncio.sleep(0.02)  # tokens a second need some time
        await conversation.finish()
        assert (await viewer).entries
        failing = await client.start("hi", model=FAILING)
        async with asyncio.timeout(DEADLINE_S):
            while (await client.get(failing.id)).status != "failed":
                await asyncio.sleep(0.05)


async def until_scraped(prometheus: Prometheus) -> None:
    """Until Prometheus has scraped all processes once more."""
    now = (await prometheus.query("vector(time())"))[0].value
    await prometheus.until_data(f"min(timestamp(up)) > {now}")


async def until_all_have_data(prometheus: Prometheus) -> None:
    """Until each query has a value that is a number."""
    lacking = queries()
    assert len(lacking) > 40
    loop = asyncio.get_running_loop()
    until = loop.time() + DEADLINE_S
    while lacking:
        for title, query in tuple(lacking.items()):
            if any(not math.isnan(sample.value) for sample in await prometheus.query(query)):
                del lacking[title]
        assert not lacking or loop.time() < until, lacking
        await asyncio.sleep(0.2)
