"""``doctor`` as a command: real servers behind it, its report, its exit code, and no secret in it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broadcaster import __version__
from broadcaster.cli.doctor import machine, network
from broadcaster.cli.doctor.command import examine
from broadcaster.cli.doctor.table import Finding, Grade
from broadcaster.cli.main import create_app
from broadcaster.cli.terminal.screen import Screen
from broadcaster.log.redis.connect import LogConnection
from broadcaster.settings import Settings
from tests.support.servers.sse_server import Exchange, SseServer

SECRET = "sk-very-secret"

app = create_app(["doctor"])


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["doctor", *arguments])


async def report(*arguments: str) -> dict[str, dict[str, Any]]:
    """The checks by ``group: check``."""
    document = json.loads((await run("--json", *arguments)).stdout)
    assert document["ok"] is all(each["verdict"] != "fail" for each in document["checks"])
    return {f"{each['group']}: {each['check']}": each for each in document["checks"]}


def answers(status: int, document: object):
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(status, json.dumps(document).encode())

    return plan


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path: Path) -> None:
    """Nothing is set, and no `up` runs here."""
    for name in [*os.environ]:
        if name.startswith(("BROADCASTER_", "ANTHROPIC_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BROADCASTER_DATA_DIR", str(tmp_path / "nothing"))


@pytest.fixture
async def front_end(monkeypatch) -> AsyncIterator[SseServer]:
    async with SseServer() as server:
        server.routes["GET", "/healthz"] = answers(200, {"status": "ok"})
        server.routes["GET", "/readyz"] = answers(200, {"ready": True, "checks": {"log": "ok"}})
        server.routes["GET", "/openapi.json"] = answers(200, {"info": {"version": __version__}})
        monkeypatch.setenv("BROADCASTER_URL", server.url)
        yield server


async def test_a_set_up_that_works_ends_with_0(connection: LogConnection, front_end: SseServer) -> None:
    result = await run("--redis-url", connection.url)
    assert result.exit_code == 0, result.stdout
    assert "fail" not in result.stderr
    assert "redis: sharded pub/sub" in result.stdout
    assert "front-end: answer" in result.stdout


async def test_a_check_that_fails_ends_with_1_and_has_its_remedy(tmp_path: Path, front_end: SseServer) -> None:
    result = await run("--redis-url", f"unix://{tmp_path}/none?password={SECRET}")
    assert result.exit_code == 1
    assert "does not answer" in result.stdout
    assert "→ start it, or correct BROADCASTER_REDIS_URL" in result.stdout
    assert "1 fail" in result.stderr
    assert SECRET not in result.output


async def test_without_anything_running_there_are_warnings_only() -> None:
    found = await report()
    assert found["redis: connection"]["verdict"] == "warn"
    assert found["front-end: answer"]["verdict"] == "warn"
    assert found["providers: anthropic"]["verdict"] == "skip"


async def test_a_front_end_that_is_named_must_be_there() -> None:
    async with SseServer() as server:
        url = server.url
    assert (await report("--url", url))["front-end: answer"]["verdict"] == "fail"
    assert (await report("--url", "nonsense"))["front-end: answer"]["verdict"] == "fail"


@pytest.mark.parametrize(
    ("path", "status", "document", "check", "verdict", "detail"),
    [
        ("/healthz", 200, {"hello": 1}, "answer", "fail", "is no front-end"),
        ("/healthz", 500, {"status": "ok"}, "answer", "fail", "is no front-end"),
        ("/readyz", 503, {"checks": {"log": "Redis does not answer"}}, "answer", "fail", "log: Redis does not answer"),
        ("/readyz", 503, [], "answer", "fail", "HTTP 503"),
        ("/readyz", 503, {"checks": ["log"]}, "answer", "fail", "HTTP 503"),
        ("/openapi.json", 200, {"info": ["x"]}, "version", "warn", "unknown"),
        ("/openapi.json", 200, {"info": {"version": "0.0.1"}}, "version", "warn", "0.0.1"),
        ("/openapi.json", 404, {}, "version", "warn", "unknown"),
    ],
)
async def test_each_response_of_a_front_end_gets_its_verdict(
    front_end, path, status, document, check, verdict, detail
) -> None:
    front_end.routes["GET", path] = answers(status, document)
    found = (await report())[f"front-end: {check}"]
    assert found["verdict"] == verdict
    assert detail in found["said"]


async def test_the_front_end_is_called_with_the_key(front_end: SseServer, monkeypatch) -> None:
    monkeypatch.setenv("BROADCASTER_API_KEY", SECRET)
    result = await run()
    assert SECRET not in result.output
    assert {request.headers["authorization"] for request in front_end.requests} == {f"Bearer {SECRET}"}


@pytest.mark.parametrize(("key", "verdict"), [(SECRET, "fail"), ("", "warn")])
async def test_a_front_end_that_refuses_our_calls_is_reported(front_end: SseServer, monkeypatch, key, verdict) -> None:
    monkeypatch.setenv("BROADCASTER_API_KEY", key)
    front_end.routes["GET", "/v1/generations"] = answers(401, {"code": "unauthorized"})
    found = (await report())["front-end: key"]
    assert (found["verdict"], SECRET in str(found)) == (verdict, False)
    assert "BROADCASTER_API_KEY" in found["said"] + found["remedy"]


async def test_a_key_of_tokens_that_is_none_is_a_fault_and_never_printed(monkeypatch) -> None:
    monkeypatch.setenv("BROADCASTER_AUTH", "keys")
    issuer = {"https://app.example": {"tenant": "web", "keys": {"k1": f"{SECRET}-private"}}}
    monkeypatch.setenv("BROADCASTER_TOKEN_ISSUERS", json.dumps(issuer))
    found = (await report())["machine: callers"]
    assert found["verdict"] == "fail"
    assert "key 'k1' of 'https://app.example'" in found["said"]
    monkeypatch.delenv("BROADCASTER_TOKEN_ISSUERS")
    monkeypatch.setenv("BROADCASTER_TOKEN_KEYS", json.dumps({"a": f"{SECRET}-0123456789-0123456789-0123456789"}))
    for options in ((), ("--json",), ("--settings",), ("--settings", "--json")):
        result = await run(*options)
        assert "BROADCASTER_TOKEN_KEYS" in result.stdout
        assert SECRET not in result.output


async def test_the_keys_of_callers_are_counted_and_never_printed(monkeypatch) -> None:
    assert "every process on this machine" in (await report())["machine: callers"]["said"]
    monkeypatch.setenv("BROADCASTER_AUTH", "keys")
    keys = {"web": [f"{SECRET}-one", f"{SECRET}-two"], "jobs": [f"{SECRET}-three"]}
    monkeypatch.setenv("BROADCASTER_API_KEYS", json.dumps(keys))
    assert (await report())["machine: callers"][
        "said"
    ] == "callers with one of 3 keys of 2 tenants, or with a key of Redis"
    for options in ((), ("--json",), ("--settings",), ("--settings", "--json")):
        result = await run(*options)
        assert "BROADCASTER_API_KEYS" in result.stdout
        assert SECRET not in result.output


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_settings_that_are_wrong_are_a_finding(monkeypatch, options) -> None:
    monkeypatch.setenv("BROADCASTER_PORT", "many")
    result = await run(*options)
    assert result.exit_code == 1
    assert "BROADCASTER_PORT" in result.stdout
    assert "many" not in result.stdout


async def test_a_misspelt_setting_is_reported_with_the_nearest_name(monkeypatch) -> None:
    monkeypatch.setenv("BROADCASTER_MAX_VIEWRS", "3")
    found = (await report())["machine: unknown settings"]
    assert found["said"] == "BROADCASTER_MAX_VIEWRS (is BROADCASTER_MAX_VIEWERS meant?)"


async def test_the_settings_are_listed_with_what_is_set(monkeypatch) -> None:
    monkeypatch.setenv("BROADCASTER_PORT", "8123")
    monkeypatch.setenv("BROADCASTER_REDIS_URL", f"redis://me:{SECRET}@h:1/0")
    monkeypatch.setenv("BROADCASTER_API_KEY", SECRET)
    listed = {row["variable"]: row for row in json.loads((await run("--settings", "--json")).stdout)}
    assert set(listed) == {machine.variable(name) for name in Settings.model_fields}
    assert (listed["BROADCASTER_PORT"]["value"], listed["BROADCASTER_PORT"]["is_default"]) == (8123, False)
    assert listed["BROADCASTER_HOST"]["is_default"] is True
    assert listed["BROADCASTER_REDIS_URL"]["value"] == "redis://***@h:1/0"
    assert listed["BROADCASTER_API_KEY"]["value"] == "***"
    table = await run("--settings")
    assert SECRET not in table.output
    assert "BROADCASTER_PORT" in table.stdout
    assert (await run("--settings", "--redis-url", "http://x")).exit_code == 2


@pytest.mark.parametrize(
    ("name", "value", "printed"),
    [
        ("api_key", "x", "***"),
        ("webhook_secret", "x", "***"),
        ("api_keys", ["x"], "***"),
        ("key_prefix", "bc", "bc"),
        ("default_max_tokens", 5, 5),
        ("api_key", None, None),
        ("providers", {"a": {"url": "http://u:p@h", "key_env": "X"}}, {"a": {"url": "http://***@h", "key_env": "X"}}),
        ("hosts", ("a", "b"), ["a", "b"]),
    ],
)  # fmt: skip
def test_secrets_are_masked_by_the_name_of_their_setting(name, value, printed) -> None:
    assert machine.masked_value(name, value) == printed


async def test_checks_that_do_not_end_are_cut_and_the_others_reported() -> None:
    async def hang() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def answer() -> list[Finding]:
        return [Finding("answer", Grade.OK, "here")]

    found = await examine(Screen(), {"slow": hang, "quick": answer}, deadline_s=0.05)
    assert [finding.grade for finding in found["slow"]] == [Grade.FAIL]
    assert found["quick"][0].detail == "here"


async def test_checks_that_raise_are_a_finding_without_the_text_of_the_error(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> list[Finding]:
        raise KeyError(SECRET)

    (finding,) = (await examine(Screen(), {"broken": fail}))["broken"]
    assert (finding.grade, "KeyError" in finding.detail) == (Grade.FAIL, True)
    assert "test_doctor.py" in caplog.text
    assert SECRET not in f"{finding}{caplog.text}"


# --------------------------------------------------------------------------------------------------------- providers


def targets(*, environment: dict[str, str] | None = None, **settings: Any) -> dict[str, network.ProviderEndpoint]:
    found = network.targets(Settings(**settings), is_routing_set="routes" in settings, environment=environment or {})
    return {target.name: target for target in found}


def own(wire: str, base_url: str | None = None, api_key_env: str | None = None) -> dict[str, str | None]:
    """A provider of the operator's own, as BROADCASTER_PROVIDERS has it."""
    return {"wire": wire, "base_url": base_url, "api_key_env": api_key_env}


def test_a_key_goes_to_its_own_server_alone() -> None:
    environment = {"OPENAI_API_KEY": "sdk", "ANTHROPIC_API_KEY": "a", "MINE": "own", "ANTHROPIC_AUTH_TOKEN": "t"}
    specs = {
        "bare": own("openai", "http://bare/v1"),
        "keyed": own("openai-responses", "http://keyed/v1", "MINE"),
        "claude": own("anthropic", "http://claude"),
        "same": own("openai"),
        "other": own("openai", None, "MINE"),
    }
    found = targets(providers=specs, environment=environment)
    assert {name: target.headers for name, target in found.items()} == {
        "anthropic": {"x-api-key": "a"},
        "openai": {"authorization": "Bearer sdk"},
        "bare": {},
        "keyed": {"authorization": "Bearer own"},
        "claude": {},
        "same": {"authorization": "Bearer sdk"},
        "other": {"authorization": "Bearer own"},
    }


def test_each_of_several_keys_is_reported_by_its_variable_and_whether_it_is_set() -> None:
    spec = {**own("openai", "http://h/v1"), "api_key_envs": ["M_1", "M_2"]}
    found = targets(
        providers={"mine": spec},
        api_key_envs={"anthropic": ("A_1", "A_2")},
        environment={"A_1": "a1", "M_2": "m2", "ANTHROPIC_AUTH_TOKEN": "t", "ANTHROPIC_API_KEY": "a"},
    )
    assert {name: (each.key_variable, each.headers, each.is_needed) for name, each in found.items()} == {
        "anthropic A_1": ("A_1", {"x-api-key": "a1"}, True),
        "anthropic A_2": ("A_2", {}, True),
        "openai": ("OPENAI_API_KEY", {}, False),
        "mine M_1": ("M_1", {}, True),
        "mine M_2": ("M_2", {"authorization": "Bearer m2"}, True),
    }


@pytest.mark.parametrize(
    ("wire", "base_url", "url"),
    [
        ("openai", "http://h/v1", "http://h/v1/models"),
        ("openai-responses", "http://h/v1/", "http://h/v1/models"),
        ("anthropic", "http://h", "http://h/v1/models"),
    ],
)
def test_models_are_listed_under_the_base_url_of_the_wire(wire, base_url, url) -> None:
    assert targets(providers={"own": own(wire, base_url)})["own"].models_url == url


def test_a_provider_is_needed_when_a_route_of_the_operator_or_the_default_model_leads_to_it() -> None:
    assert [each.is_needed for each in targets().values()] == [False, False]
    assert [each.is_needed for each in targets(default_model="claude-x").values()] == [True, False]
    routes = {"gpt*": "openai-responses", "local": "local"}
    assert [each.is_needed for each in targets(routes=routes).values()] == [False, True]
    elsewhere = {"ANTHROPIC_BASE_URL": "http://h"}
    assert [each.is_needed for each in targets(environment=elsewhere).values()] == [True, False]
    assert targets(providers={"mine": own("openai", "http://h/v1")})["mine"].is_needed


async def test_a_provider_whose_key_is_missing_is_not_called_and_one_that_needs_none_is() -> None:
    async with SseServer() as server:
        server.routes["GET", "/v1/models"] = answers(200, {})
        named = {
            "keyed": own("openai", f"{server.url}/v1", "MINE"),
            "open": own("openai", f"{server.url}/v1"),
        }
        found = targets(providers=named, environment={"OPENAI_API_KEY": SECRET, "ANTHROPIC_BASE_URL": server.url})
        statuses = {
            name: (await network.probe_provider(target)).status for name, target in found.items() if name != "openai"
        }
    assert statuses == {"anthropic": None, "keyed": None, "open": 200}
    assert [request.headers.get("authorization") for request in server.requests] == [None]


async def test_the_models_of_a_provider_are_requested_with_its_key() -> None:
    async with SseServer() as server:
        server.routes["GET", "/v1/models"] = answers(200, {"data": [{"id": "a"}, {"id": "b"}]})
        environment = {"ANTHROPIC_API_KEY": SECRET, "ANTHROPIC_BASE_URL": server.url}
        answer = await network.probe_provider(targets(environment=environment)["anthropic"])
        assert (answer.status, answer.models) == (200, 2)
        assert server.requests[0].headers["x-api-key"] == SECRET
        assert server.requests[0].headers["anthropic-version"]


async def test_a_redirect_carries_no_key_away() -> None:
    async with SseServer() as server:

        async def elsewhere(exchange: Exchange) -> None:
            await exchange.answer(307, location=f"{server.url}/elsewhere")

        server.routes["GET", "/v1/models"] = elsewhere
        environment = {"OPENAI_API_KEY": SECRET, "OPENAI_BASE_URL": f"{server.url}/v1"}
        answer = await network.probe_provider(targets(environment=environment)["openai"])
        assert answer.status == 307
        assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "verdict"), [(200, "ok"), (401, "fail"), (404, "warn"), (503, "warn")])
async def test_the_answer_of_a_provider_is_in_the_report(monkeypatch, status, verdict) -> None:
    async with SseServer() as server:
        server.routes["GET", "/v1/models"] = answers(status, {"data": []})
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", SECRET)
        result = await run("--json")
    assert SECRET not in result.output
    found = [each for each in json.loads(result.stdout)["checks"] if each["check"] == "openai"]
    assert [each["verdict"] for each in found] == [verdict]


@pytest.mark.parametrize("key", ["k\u00e9y\n", "k" * 10])
async def test_a_provider_that_cannot_be_called_is_unreachable_and_its_key_not_printed(key: str) -> None:
    async with SseServer() as server:
        url = server.url
    environment = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": key}
    answer = await network.probe_provider(targets(environment=environment)["openai"])
    assert answer.fault is not None
    assert key not in answer.fault


async def test_a_list_of_models_without_end_is_left_after_its_bound() -> None:
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 2**16)
                sent += 2**16
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    answer = await network.probe_provider(targets(providers={"own": own("anthropic", base_url)})["own"])
    assert (answer.status, answer.models) == (200, None)
    assert sent < 4 * network.LIST_BYTES
    server.close()
