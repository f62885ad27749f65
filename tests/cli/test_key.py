"""``key add``, ``key ls`` and ``key revoke`` on a real Redis."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re

import pytest
from typer.testing import CliRunner, Result

from broadcaster.cli.main import create_app
from broadcaster.core.access.callers import USUAL_ACTIONS, Action
from broadcaster.log.access.access_list import AccessList
from broadcaster.log.redis.connect import LogConnection

app = create_app(["key"])


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["key", *arguments])


@pytest.fixture
async def shared(connection: LogConnection, monkeypatch: pytest.MonkeyPatch) -> AccessList:
    monkeypatch.setenv("BROADCASTER_REDIS_URL", connection.url)
    return AccessList(connection)


async def test_a_new_key_is_printed_once_and_stored_as_its_digest(
    shared: AccessList, connection: LogConnection
) -> None:
    result = await run("add", "--tenant", "web", "--right", "watch", "--right", "stop", "--name", "dash board")
    key = result.stdout.strip()
    assert (result.exit_code, key[:4], len(key) > 40) == (0, "bck_", True)
    assert key not in result.stderr
    (stored,) = (await shared.read()).keys
    assert stored.digest == hashlib.sha256(key.encode()).hexdigest()
    caller = stored.key.caller
    assert (caller.tenant, caller.actions, caller.name) == ("web", frozenset({Action.WATCH, Action.STOP}), "dash board")
    assert key not in str(await connection.redis.hgetall(connection.keys.access_keys))
    for options in ((), ("--json",)):
        assert key not in (await run("ls", *options)).output


async def test_ls_lists_what_an_operator_needs_to_know(shared: AccessList) -> None:
    assert "broadcaster key add" in (await run("ls")).stderr
    made = json.loads((await run("add", "--json", "--tokens-per-day", "500")).stdout)
    await run("add", "--right", "admin", "--name", "ops")
    lines = [line.split() for line in (await run("ls")).stdout.strip().split("\n")]
    assert lines[0] == ["DIGEST", "TENANT", "RIGHTS", "TOKENS/DAY", "NAME", "AGE"]
    rows = {digest: rest for digest, *rest, _age in lines[1:]}
    assert rows[made["digest"][:16]] == ["local", ",".join(sorted(USUAL_ACTIONS)), "500", "–"]
    assert ["local", "admin", "–", "ops"] in rows.values()
    assert all(re.fullmatch(r"\d+s", line[-1]) for line in lines[1:])
    listed = {each["digest"]: each for each in json.loads((await run("ls", "--json")).stdout)}
    assert listed[made["digest"]]["tokens_per_day"] == 500


async def test_a_key_is_revoked_by_its_name_or_by_the_start_of_its_digest(shared: AccessList) -> None:
    digest = json.loads((await run("add", "--json", "--name", "old")).stdout)["digest"]
    other = json.loads((await run("add", "--json")).stdout)["digest"]
    revoked = await run("revoke", "old")
    assert (revoked.exit_code, revoked.stdout) == (0, f"revoked {digest[:16]} of tenant local old\n")
    assert [stored.digest for stored in (await shared.read()).keys] == [other]
    assert (await run("revoke", other[:8].upper())).exit_code == 0
    assert (await shared.read()).keys == ()


async def test_what_names_no_key_or_several_revokes_none(shared: AccessList) -> None:
    record = {"tenant": "web", "rights": ["watch"], "name": "twin", "created_ms": 1}
    for digest in ("ab" * 32, "ab" * 31 + "cd"):
        await shared.add_key(digest, record)
    await shared.add_key("cd" * 32, {**record, "name": ""})
    for which, fault in (("twin", "2 keys"), ("ababab", "2 keys"), ("ab", "no key"), ("", "no key"), ("x", "no key")):
        refused = await run("revoke", which)
        assert (refused.exit_code, fault in refused.stderr) == (1, True), which
        assert f"with the name {which or repr(which)}, or " in refused.stderr
        assert "broadcaster key ls" in refused.stderr
    assert len((await shared.read()).keys) == 3


@pytest.mark.parametrize(
    "options", [("--tenant", "a:b"), ("--name", "two\nlines"), ("--tokens-per-day", str(10**13)), ("--right", "fly")]
)
async def test_a_key_that_front_ends_could_not_read_is_not_made(shared: AccessList, options: tuple[str, ...]) -> None:
    refused = await run("add", *options)
    assert (refused.exit_code, refused.stdout) == (2, "")
    value = repr(options[1]).replace("\\n", " ") if "\n" in options[1] else options[1]
    assert refused.stderr.startswith(f"error: {options[0]} {value}: ")
    assert (await shared.read()).keys == ()


async def test_a_name_belongs_to_one_key(shared: AccessList) -> None:
    assert (await run("add", "--name", "web")).exit_code == 0
    refused = await run("add", "--name", "web")
    assert (refused.exit_code, refused.stdout, "choose another" in refused.stderr) == (1, "", True)
