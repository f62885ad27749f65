"""Settings that cannot be, or that break a promise together: refused in one line that names the variables."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import pytest
from typer.testing import CliRunner

from broadcaster.cli.main import create_app_for
from broadcaster.settings import Settings, read_settings, unknown_variables
from broadcaster.settings.contradictions import check_worker
from worker.main import main as worker_main

REDIS = {"REDIS_URL": "redis://127.0.0.1:1"}
SECRET = "do-not-show-me"

WRONG: dict[str, tuple[dict[str, str], list[str]]] = {
    # the value, and the variables that the message must name
    "a stall before the lease lapses": (
        {"STALL_TIMEOUT_S": "5", "LEASE_TTL_S": "5"}, ["STALL_TIMEOUT_S", "LEASE_TTL_S"],
    ),
    "a log that expires before its end": (
        {"LIVE_TTL_S": "30", "STALL_TIMEOUT_S": "60"}, ["LIVE_TTL_S", "STALL_TIMEOUT_S", "LEASE_TTL_S"],
    ),
    "a back-off longer than a generation": (
        {"ATTEMPT_BACKOFF_S": "30", "GENERATION_TIMEOUT_S": "30"},
        ["ATTEMPT_BACKOFF_S", "GENERATION_TIMEOUT_S"],
    ),
    "a queue longer than memory": ({"QUEUE_TIMEOUT_S": "9000", "LIVE_TTL_S": "100"}, ["QUEUE_TIMEOUT_S", "LIVE_TTL_S"]),
    "a buffer that outlives a tombstone": ({"RESEND_KEEP_S": "3600"}, ["RESEND_KEEP_S"]),
    "a heartbeat slower than clients' patience": ({"HEARTBEAT_S": "45"}, ["HEARTBEAT_S"]),
    "a room larger than the hub": ({"ROOM_BYTES": "2097152", "HUB_BYTES": "1048576"}, ["ROOM_BYTES", "HUB_BYTES"]),
    "a stream larger than the buffers": (
        {"MAX_BYTES": "4194304", "BUFFER_BYTES": "1048576"}, ["MAX_BYTES", "BUFFER_BYTES"],
    ),
    "a default model without a route": ({"DEFAULT_MODEL": "nobody-0"}, ["DEFAULT_MODEL", "ROUTES"]),
    "routes without the default model": ({"ROUTES": '{"claude*": "anthropic"}'}, ["DEFAULT_MODEL", "ROUTES"]),
    "a route to nobody": ({"ROUTES": '{"local": "lokal"}'}, ["ROUTES"]),
    "no route": ({"ROUTES": "{}"}, ["ROUTES"]),
    "a route that is no expression": ({"ROUTES": '{"re:[": "anthropic", "*": "local"}'}, ["ROUTES"]),
    "routes that are no JSON": ({"ROUTES": f"claude={SECRET}"}, ["ROUTES"]),
    "routes that are a list": ({"ROUTES": '["claude"]'}, ["ROUTES"]),
    "an open door without keys": ({"HOST": "0.0.0.0"}, ["HOST"]),
    "no host to listen on": ({"HOST": ""}, ["HOST"]),
    "a file of keys without a lock": ({"API_KEYS_FILE": "/keys.json"}, ["AUTH", "API_KEYS_FILE"]),
    "keys that nobody asks for": ({"API_KEYS": json.dumps({"a": [f"{SECRET}-{SECRET}"]})}, ["AUTH", "API_KEYS"]),
    "another kind of lock": ({"AUTH": "basic"}, ["AUTH"]),
    "keys that are no JSON": ({"AUTH": "keys", "API_KEYS": f"a={SECRET}-{SECRET}"}, ["API_KEYS"]),
    "keys of nobody": ({"AUTH": "keys", "API_KEYS": json.dumps([f"{SECRET}-{SECRET}"])}, ["API_KEYS"]),
    "one key instead of a list": ({"AUTH": "keys", "API_KEYS": json.dumps({"a": f"{SECRET}-{SECRET}"})}, ["API_KEYS"]),
    "a tenant without a key": ({"AUTH": "keys", "API_KEYS": '{"a": []}'}, ["API_KEYS"]),
    "no tenant at all": ({"AUTH": "keys", "API_KEYS": "{}"}, ["API_KEYS"]),
    "a key that can be guessed": ({"AUTH": "keys", "API_KEYS": json.dumps({"a": [SECRET]})}, ["API_KEYS"]),
    "a key where the tenant belongs": (
        {"AUTH": "keys", "API_KEYS": json.dumps({f"{SECRET}/{SECRET}": ["a-key-of-sixteen"]})}, ["API_KEYS"],
    ),
    "one key of two tenants": (
        {"AUTH": "keys", "API_KEYS": json.dumps({"a": [f"{SECRET}-{SECRET}"], "b": [f"{SECRET}-{SECRET}"]})},
        ["API_KEYS"],
    ),
    "another kind of log": ({"REDIS_URL": f"http://:{SECRET}@127.0.0.1"}, ["REDIS_URL"]),
    "a Redis without a host": ({"REDIS_URL": f"redis://:{SECRET}@:6379"}, ["REDIS_URL"]),
    "a Redis of no port": ({"REDIS_URL": f"redis://:{SECRET}@localhost:soon"}, ["REDIS_URL"]),
    "a socket without a path": ({"REDIS_URL": "unix://"}, ["REDIS_URL"]),
    "Sentinels without a primary": ({"REDIS_URL": f"redis+sentinel://:{SECRET}@h1,h2"}, ["REDIS_URL"]),
    "a cluster with a database": ({"REDIS_URL": f"redis+cluster://:{SECRET}@h1,h2/1"}, ["REDIS_URL"]),
    "keys of odd letters": ({"KEY_PREFIX": "{bc}"}, ["KEY_PREFIX"]),
    "a lease shorter than a pause": ({"LEASE_TTL_S": "0.1"}, ["LEASE_TTL_S"]),
    "an endless lease": ({"LEASE_TTL_S": "inf"}, ["LEASE_TTL_S"]),
    "a lease that is no number": ({"LEASE_TTL_S": "nan"}, ["LEASE_TTL_S"]),
    "a lifetime beyond all lifetimes": ({"RETENTION_S": "1e15"}, ["RETENTION_S"]),
    "a port beyond all ports": ({"PORT": "65536"}, ["PORT"]),
    "a port that is a word": ({"PORT": SECRET}, ["PORT"]),
    "a body larger than Redis takes": ({"MAX_BODY_BYTES": "536870912"}, ["MAX_BODY_BYTES"]),
    "pushes larger than a feed reads": ({"PUSH_MAX_BYTES": "33554432"}, ["PUSH_MAX_BYTES"]),
    "fewer than no processes": ({"PROCESSES": "-1"}, ["PROCESSES"]),
    "processes beyond all machines": ({"PROCESSES": "1000"}, ["PROCESSES"]),
    "no viewers": ({"MAX_VIEWERS": "0"}, ["MAX_VIEWERS"]),
    "reconnects without a pause": ({"RETRY_MS": "0"}, ["RETRY_MS"]),
    "a level of no log": ({"LOG_LEVEL": "loud"}, ["LOG_LEVEL"]),
    "several at once": (
        {"HEARTBEAT_S": "60", "RESEND_KEEP_S": "7200", "DEFAULT_MODEL": "nobody-0"},
        ["HEARTBEAT_S", "RESEND_KEEP_S", "DEFAULT_MODEL"],
    ),
}  # fmt: skip

FINE: dict[str, dict[str, str]] = {
    "nothing set": {},
    "short times": {"LEASE_TTL_S": "0.5", "STALL_TIMEOUT_S": "1", "LIVE_TTL_S": "2"},
    "a hosted Redis": {"REDIS_URL": "rediss://user:pw@redis.example:6380/0?ssl_cert_reqs=none"},
    "a Redis at an IPv6 address": {"REDIS_URL": "redis://[::1]:6379"},
    "a socket": {"REDIS_URL": "unix:///run/redis/redis.sock?db=0"},
    "Sentinels": {"REDIS_URL": "redis+sentinel://user:pw@h1,h2:26380/mymaster/0?sentinel_password=pw"},
    "a cluster": {"REDIS_URL": "rediss+cluster://user:pw@h1:6379,h2"},
    "an empty Redis is none": {"REDIS_URL": ""},
    "own routes with their default": {"ROUTES": '{"re:o\\\\d.*": "openai"}', "DEFAULT_MODEL": "o3"},
    "a process for each core": {"PROCESSES": "0"},
    "IPv6": {"HOST": "::1"},
    "an open door with keys": {
        "HOST": "0.0.0.0", "AUTH": "keys", "API_KEYS": '{"web": ["a-key-of-sixteen", "another-for-later"]}',
    },
    "keys on this machine alone": {"AUTH": "keys", "API_KEYS": '{"local": ["a-key-of-sixteen"]}'},
    "no keys, said twice": {"AUTH": "off", "API_KEYS": ""},
}  # fmt: skip


def variables(given: dict[str, str]) -> dict[str, str]:
    return {f"BROADCASTER_{name}": value for name, value in given.items()}


@pytest.mark.parametrize("name", WRONG)
def test_settings_that_are_not_valid_are_refused_in_one_line_that_names_the_variables(name: str) -> None:
    given, named = WRONG[name]
    result = CliRunner().invoke(create_app_for(["serve"]), ["serve"], env=variables({**REDIS, **given}))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: the settings are not valid: ")
    assert result.stderr.count("\n") == 1
    for each in named:
        assert f"BROADCASTER_{each}" in result.stderr
    assert SECRET not in result.stderr


@pytest.mark.parametrize("name", WRONG)
def test_a_worker_refuses_the_same(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    given, named = WRONG[name]
    for variable, value in variables({**REDIS, **given}).items():
        monkeypatch.setenv(variable, value)
    with pytest.raises(SystemExit) as ended:
        worker_main()
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("\n")) == (2, 1)
    for each in named:
        assert f"BROADCASTER_{each}" in message
    assert SECRET not in message


@pytest.mark.parametrize(("timeout_s", "is_refused"), [("2.5", False), ("2.6", True), ("5", True)])
def test_a_worker_that_could_not_repeat_a_call_within_its_lease_does_not_start(
    timeout_s: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, *, is_refused: bool
) -> None:
    """The Redis that it would need is missing: a worker that is not refused for its times is refused for that."""
    monkeypatch.delenv("BROADCASTER_REDIS_URL", raising=False)
    monkeypatch.setenv("BROADCASTER_REDIS_TIMEOUT_S", timeout_s)
    with pytest.raises(SystemExit) as ended:
        worker_main()
    message = capsys.readouterr().err
    assert (ended.value.code, message.count("\n")) == (2, 1)
    assert ("BROADCASTER_REDIS_TIMEOUT_S" in message and "BROADCASTER_LEASE_TTL_S" in message) is is_refused


def test_the_defaults_are_fine_for_a_worker() -> None:
    check_worker(Settings())


@pytest.mark.parametrize("name", FINE)
def test_settings_that_fit_together_are_accepted(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in variables(FINE[name]).items():
        monkeypatch.setenv(variable, value)
    assert Settings().port >= 0


OF_ENVIRONMENT = {
    "ROUTES": {"claude*": "anthropic", "local": "local"},
    "PROVIDERS": {"mine": {"wire": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key_env": "MINE"}},
    "API_KEY_ENVS": {"anthropic": ["A"], "openai": ["B"]},
}


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("routes", {"local": "local", "claude-3*": "openai"}),
        ("providers", {"mine": {"wire": "openai", "base_url": "http://127.0.0.1:2/v1"}}),
        ("api_key_envs", {"openai": ("C",)}),
    ],
)
def test_what_a_program_gives_replaces_the_variable_and_is_not_merged_into_it(
    name: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in OF_ENVIRONMENT.items():
        monkeypatch.setenv(f"BROADCASTER_{variable}", json.dumps(value))
    found = read_settings("redis://127.0.0.1:1", {name: given}).model_dump(exclude_unset=True)
    assert list(found[name].items()) == list(given.items())
    assert {each.upper() for each in found} >= OF_ENVIRONMENT.keys()


def test_a_variable_that_is_no_setting_is_found_with_the_one_that_may_be_meant() -> None:
    given = {
        "BROADCASTER_REDIS_URI": "x",
        "broadcaster_max_viewer": "1",
        "BROADCASTER_COLOUR_OF_THE_DOOR": "red",
        "BROADCASTER_PORT": "1",
        "broadcaster_port": "1",
        "BROADCASTER_PARENT_PID": "1",
        "REDIS_URL": "x",
    }
    assert unknown_variables(given) == [
        ("BROADCASTER_COLOUR_OF_THE_DOOR", None),
        ("BROADCASTER_REDIS_URI", "BROADCASTER_REDIS_URL"),
        ("broadcaster_max_viewer", "BROADCASTER_MAX_VIEWERS"),
    ]


@pytest.mark.parametrize("module", [("broadcaster", "serve"), ("worker",)])
async def test_a_typo_is_logged_and_stops_nothing(module: tuple[str, ...]) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "BROADCASTER_STALL_TIMEOUT": SECRET},
    )  # fmt: skip
    async with asyncio.timeout(60):
        _, message = await process.communicate()
    typo, refusal = message.decode().strip().split("\n")
    line = json.loads(typo)
    assert (line["event"], line["level"]) == ("unknown_setting", "warning")
    assert (line["variable"], line["nearest"]) == ("BROADCASTER_STALL_TIMEOUT", "BROADCASTER_STALL_TIMEOUT_S")
    assert SECRET not in typo
    assert "needs a Redis" in refusal  # it went on to the next thing that is missing
