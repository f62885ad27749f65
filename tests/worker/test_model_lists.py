"""The providers' lists of models: requested by one worker, stored in Redis, listed by a front-end."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anthropic
import openai
import pytest

from broadcaster.core.providers.listed_models import ListedModel
from broadcaster.core.providers.model_routing import ModelRoutes
from broadcaster.log.jobs.lists.model_lists import StoredModelLists
from broadcaster.log.redis.connect import LogConnection
from broadcaster.process.tasks import running
from broadcaster.settings import Settings
from broadcaster.testing import Answer, Script, ScriptedProvider
from broadcaster.testing.chat_wire import CREATED
from broadcaster.web.app import create_app
from broadcaster.web.wiring import open_services
from tests.support.servers.front_end import DEADLINE_S, served
from tests.worker.providers.provider_support import ANTHROPIC, CHAT, Wire, on_every_wire, provider_at, scripted
from worker import model_lists
from worker.main import keep_providers, open_engine
from worker.model_lists import FAILED_S, KEEP_S, ModelListReader
from worker.providers.base import LIST_BYTES, LIST_PAGES, ListsModels, ProviderRequest, ProviderStream
from worker.providers.registry import Providers

EVERY_S = 300.0


@on_every_wire
async def test_the_list_of_a_provider_is_requested_with_the_key_of_the_call(on: Wire) -> None:
    async with scripted(on) as (server, provider):
        server.script("mine", Script(Answer(500)))
        assert isinstance(provider, ListsModels)
        models = await provider.models(api_key="sk-of-this-call")
        assert (models[-1].id, models[-1].created, models[-1].owner) == ("mine", CREATED, "scripted")
        assert not server.requests
        (lookup,) = server.lookups
    assert lookup.path.startswith("/v1/models")
    assert (lookup.headers["authorization"], lookup.headers["accept-encoding"]) == (
        "Bearer sk-of-this-call",
        "identity",
    )


@asynccontextmanager
async def listing(*bodies: bytes, head: bytes = b"200 OK") -> AsyncIterator[tuple[str, list[bytes]]]:
    """The URL of a server that answers each request with the next of these bodies, and the requested paths."""
    left, paths = list(bodies), list[bytes]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        paths.append((await reader.readuntil(b"\r\n\r\n")).split()[1])
        body = left.pop(0) if len(left) > 1 else left[0]
        writer.write(b"HTTP/1.1 " + head + b"\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n" + body)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        yield f"http://{host}:{port}", paths


def page(*ids: str, **fields: object) -> bytes:
    return json.dumps({"data": [{"id": id} for id in ids], **fields}).encode()


async def test_pages_are_followed_and_not_for_ever() -> None:
    bodies = page("a", has_more=True, last_id="a"), page("b", "a", has_more=True, last_id="b"), page("c")
    async with listing(*bodies) as (url, paths), provider_at(url, ANTHROPIC) as provider:
        assert isinstance(provider, ListsModels)
        assert [model.id for model in await provider.models(api_key=None)] == ["a", "b", "a", "c"]
    assert [path.partition(b"after_id=")[2].partition(b"&")[0] for path in paths] == [b"", b"a", b"b"]
    async with listing(page("a", has_more=True, last_id="a")) as (url, paths), provider_at(url, ANTHROPIC) as provider:
        assert isinstance(provider, ListsModels)
        await provider.models(api_key=None)
    assert len(paths) == LIST_PAGES


@pytest.mark.parametrize("wire", [ANTHROPIC, CHAT], ids=str)
@pytest.mark.parametrize(
    ("head", "body"),
    [
        (b"200 OK\r\ncontent-encoding: gzip", gzip.compress(page("a"))),
        (b"200 OK", page("a").ljust(LIST_BYTES + 1)),
        (b"200 OK", b"<html>"),
        (b"302 Found\r\nlocation: /elsewhere", page("a")),
        (b"404 Not Found", page("a")),
    ],
    ids=["encoded", "too long", "no list", "a redirect", "refused"],
)
async def test_a_response_that_is_not_a_list_of_bounded_size_raises(wire: Wire, head: bytes, body: bytes) -> None:
    async with listing(body, head=head) as (url, _), provider_at(url, wire) as provider:
        assert isinstance(provider, ListsModels)
        with pytest.raises((ValueError, anthropic.AnthropicError, openai.OpenAIError)):
            await provider.models(api_key=None)


class Lister:
    """A provider that has these models, and no answers; None: it does not answer at all."""

    def __init__(self, *ids: str) -> None:
        self.ids: Sequence[str] | None = ids
        self.fault: Exception | None = None
        self.requested = 0

    async def models(self, *, api_key: str | None) -> Sequence[ListedModel]:
        self.requested += 1
        if self.fault is not None:
            raise self.fault
        if self.ids is None:
            await asyncio.Event().wait()
        return [ListedModel(id=id) for id in self.ids or ()]

    def stream(self, request: ProviderRequest) -> AbstractAsyncContextManager[ProviderStream]:
        raise AssertionError

    async def start(self) -> None: ...

    async def aclose(self) -> None: ...


@pytest.fixture
def stored(connection: LogConnection) -> StoredModelLists:
    return StoredModelLists(connection)


def reader_of(lister: Lister, stored: StoredModelLists) -> ModelListReader:
    providers = Providers(ModelRoutes({"*": "p"}), {"p": lambda: lister})
    return ModelListReader(providers, ["p"], stored, every_s=EVERY_S)


async def test_of_many_workers_one_reads_a_list_and_it_is_kept_for_hours(
    connection: LogConnection, stored: StoredModelLists
) -> None:
    lister, keys = Lister("a", "b"), connection.keys
    await asyncio.gather(*(reader_of(lister, stored).refresh() for _ in range(8)))
    assert lister.requested == 1
    assert {name: list(models) for name, models in (await stored.read(["p", "q"])).items()} == {"p": ["a", "b"]}
    assert KEEP_S - 60 < await connection.redis.pttl(keys.models("p")) / 1000 <= KEEP_S
    assert EVERY_S - 60 < await connection.redis.pttl(keys.models_turn("p")) / 1000 <= EVERY_S


@pytest.mark.parametrize("fault", [OSError("no"), ValueError("no list"), "silence"], ids=str)
async def test_a_list_that_cannot_be_read_leaves_the_last_one_and_is_retried_soon(
    connection: LogConnection, stored: StoredModelLists, monkeypatch: pytest.MonkeyPatch, *, fault: object
) -> None:
    monkeypatch.setattr(model_lists, "LIST_S", 0.01)
    lister, turn = Lister("a"), connection.keys.models_turn("p")
    await reader_of(lister, stored).refresh()
    await connection.redis.delete(turn)
    lister.ids, lister.fault = None, fault if isinstance(fault, Exception) else None
    await reader_of(lister, stored).refresh()
    assert (lister.requested, list((await stored.read(["p"]))["p"])) == (2, ["a"])
    assert await connection.redis.pttl(turn) / 1000 <= FAILED_S


async def test_models_that_workers_read_are_listed_by_both_sdks_in_the_form_that_can_be_requested(
    connection: LogConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ScriptedProvider() as server:
        for name in ("qwen3:8b", "org/model", "whisper"):
            server.script(name, Script(Answer(500)))
        for variable in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "OPENAI_API_KEY"):
            monkeypatch.delenv(variable, raising=False)
        own = {"wire": "openai", "base_url": server.openai_base_url}
        settings = Settings.model_validate(
            {
                "redis_url": connection.url,
                "providers": {"ollama": own, "spare": own},
                "routes": {"local": "local", "fast": "ollama/qwen3:8b", "qwen*": ["ollama", "spare"], "org/*": "spare"},
            }
        )
        async with (
            open_engine(settings, "worker") as (engine, *_),
            running(keep_providers(settings, engine.keeper.connection, engine.providers)),
            open_services(settings) as services,
            served(create_app(settings, services=services), services) as client,
        ):
            async with asyncio.timeout(DEADLINE_S):
                while await connection.redis.exists(*map(connection.keys.models, ("ollama", "spare"))) < 2:
                    await asyncio.sleep(0.01)
            url = str(client.base_url).rstrip("/")
            async with (
                openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as one,
                anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as other,
            ):
                ours = [model async for model in one.models.list()]
                theirs = [model async for model in other.models.list(limit=1)]
                fast = await other.models.retrieve("fast")
    names = ["local", "fast", "qwen3:8b", "org/model"]
    assert [model.id for model in ours] == [model.id for model in theirs] == names
    dates = [0, CREATED, CREATED, CREATED]
    assert [model.created for model in ours] == [int(model.created_at.timestamp()) for model in theirs] == dates
    assert [model.owned_by for model in ours] == ["local", "scripted", "scripted", "scripted"]
    assert (fast.display_name, int(fast.created_at.timestamp())) == ("fast", CREATED)


async def test_neither_a_worker_nor_a_front_end_reads_lists_where_that_is_off(
    connection: LogConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "any")
    settings = Settings(redis_url=connection.url, model_list_s=0)
    await StoredModelLists(connection).store("anthropic", [ListedModel(id="claude-x")], keep_s=9)
    async with open_engine(settings, "worker") as (engine, *_), open_services(settings) as services:
        await keep_providers(settings, engine.keeper.connection, engine.providers)
        assert await services.model_lists() == {}
    assert not await connection.redis.exists(connection.keys.models_turn("anthropic"))
