"""``dead ls`` and ``dead requeue`` on a real Redis."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broadcaster.cli.main import create_app
from broadcaster.core.access.masking import masked
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.redis.embedded import EmbeddedServer
from tests.conftest import server_binary
from tests.support.log.log_world import World
from tests.support.log.valkey import start_valkey

app = create_app(["dead"])


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(CliRunner().invoke, app, ["dead", *arguments])


@pytest.fixture
async def world(connection: LogConnection, monkeypatch) -> World:
    monkeypatch.setenv("BROADCASTER_REDIS_URL", connection.url)
    world = World(connection, max_attempts=1)
    await world.queue.create_group()
    return world


async def test_ls_shows_a_row_for_each_letter(world: World) -> None:
    lost, kept = await world.die(), await world.die()
    await world.redis.delete(world.keys.meta(lost))
    result = await run("ls")
    rows = [line.split() for line in result.stdout.strip().split("\n")]
    ages = [row.pop(1) for row in rows]
    assert rows == [
        ["ID", "REASON", "MODEL", "REQUEUE"],
        [kept, "attempts_spent", "m", "possible"],
        [lost, "attempts_spent", "–", "no:", "expired"],
    ]
    assert ages[0] == "AGE"
    assert all(re.fullmatch(r"\d+s", age) for age in ages[1:])


async def test_ls_can_be_read_by_programs_and_be_short(world: World) -> None:
    await world.die()
    newest = await world.die()
    (letter,) = json.loads((await run("ls", "--json", "--limit", "1")).stdout)
    assert letter.pop("at") > 0
    assert letter == {"id": newest, "reason": "attempts_spent", "model": "m", "can_requeue": True}


async def test_ls_of_an_empty_list_prints_a_note(world: World) -> None:
    result = await run("ls")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no dead letters\n")
    assert (await run("ls", "--json")).stdout == "[]\n"


async def test_requeue_prints_the_old_and_the_new_id_and_removes_the_letter(world: World) -> None:
    old, other = await world.die(), await world.die()
    result = await run("requeue", old)
    (new,) = await world.queue.newest_open(10)
    assert (result.exit_code, result.stdout) == (0, f"{old} → {new}\n")
    assert [each["id"] for each in json.loads((await run("ls", "--json")).stdout)] == [other]


async def test_requeue_of_all_leaves_what_is_kept_no_longer(world: World) -> None:
    lost, *kept = [await world.die() for _ in range(3)]
    await world.redis.delete(world.keys.meta(lost))
    result = await run("requeue", "--all")
    assert result.exit_code == 0
    assert {line.partition(" → ")[0] for line in result.stdout.strip().split("\n")} == set(kept)
    assert "1 letter left" in result.stderr
    assert [each["id"] for each in json.loads((await run("ls", "--json")).stdout)] == [lost]


async def test_requeue_can_be_read_by_programs(world: World) -> None:
    lost, kept = await world.die(), await world.die()
    await world.redis.delete(world.keys.meta(lost))
    result = await run("requeue", lost, kept, "--json")
    assert result.exit_code == 1
    report = {each.pop("id"): each for each in json.loads(result.stdout)}
    assert report[kept]["created"] is True
    assert report[lost]["error"]["code"] == "unknown_stream"


async def test_requeue_of_what_is_not_dead_does_nothing_and_ends_with_1(world: World) -> None:
    old = await world.die()
    result = await run("requeue", old, "gen_x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no dead letter of gen_x" in result.stderr
    assert await world.queue.newest_open(10) == []


async def test_a_full_queue_ends_the_requeue_and_keeps_the_rest(world: World, monkeypatch) -> None:
    monkeypatch.setenv("BROADCASTER_MAX_QUEUE", "1")
    await world.die()
    await world.die()
    result = await run("requeue", "--all")
    assert result.exit_code == 1
    assert result.stdout.count("→") == 1
    assert "queue_full" in result.stderr
    assert "1 letter requeued" in result.stderr
    assert len(json.loads((await run("ls", "--json")).stdout)) == 1


async def test_a_letter_that_the_settings_no_longer_allow_keeps_no_other_from_its_requeue(
    world: World, monkeypatch
) -> None:
    monkeypatch.setenv("BROADCASTER_MAX_METADATA_BYTES", "1024")
    first, large, last = await world.die(), await world.die(chat="x" * 2000), await world.die()
    result = await run("requeue", "--all")
    assert result.exit_code == 1
    assert {line.partition(" → ")[0] for line in result.stdout.strip().split("\n")} == {first, last}
    assert f"{large}: metadata has " in result.stderr
    assert "1 letter could not be requeued" in result.stderr
    assert [each["id"] for each in json.loads((await run("ls", "--json")).stdout)] == [large]


async def test_a_tenant_at_its_limit_keeps_no_other_tenant_from_its_requeue(world: World, monkeypatch) -> None:
    monkeypatch.setenv("BROADCASTER_TENANT_QUEUED", "1")
    letters = [await world.die(tenant=tenant) for tenant in ("a", "b", "b")]
    result = await run("requeue", "--all", "--json")
    assert result.exit_code == 1
    codes = {each["id"]: each.get("error", {}).get("code") for each in json.loads(result.stdout)}
    assert codes == dict(zip(letters, (None, "tenant_limit", None), strict=True))


async def test_as_many_webhooks_as_may_be_pending_end_the_requeue_with_a_report_of_what_was_done(
    world: World, monkeypatch
) -> None:
    monkeypatch.setenv("BROADCASTER_MAX_WEBHOOKS", "1")
    monkeypatch.setenv("BROADCASTER_WEBHOOK_HOSTS", "hooks.example.com")
    monkeypatch.setenv("BROADCASTER_WEBHOOK_SECRET", "a-secret-of-enough-letters")
    for _ in range(2):
        await world.die(webhook={"url": "https://hooks.example.com/h"})
    await world.redis.delete(world.keys.webhooks_promised, world.keys.webhooks_due)
    result = await run("requeue", "--all", "--json")
    assert result.exit_code == 1
    assert [set(each) for each in json.loads(result.stdout)] == [{"id", "new_id", "created"}]
    assert "1 letter requeued" in result.stderr


@pytest.mark.parametrize("arguments", [("requeue",), ("requeue", "gen_x", "--all"), ("ls", "--redis-url", "http://x")])
async def test_a_wrong_command_ends_with_2(world: World, arguments: tuple[str, ...]) -> None:
    assert (await run(*arguments)).exit_code == 2


# ----------------------------------------------------------------------------------------------------- which Redis


async def test_without_a_redis_one_line_names_the_setting(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("BROADCASTER_REDIS_URL", raising=False)
    result = await run("ls", "--data-dir", str(tmp_path / "nothing"))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "BROADCASTER_REDIS_URL" in result.stderr


async def test_the_embedded_server_of_a_running_up_is_found_by_its_folder(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("BROADCASTER_REDIS_URL", raising=False)
    folder = tmp_path / "data"
    server = EmbeddedServer(folder, binary=server_binary())
    await server.start()
    try:
        assert (await run("ls", "--data-dir", str(folder))).stderr == "no dead letters\n"
        monkeypatch.setenv("BROADCASTER_DATA_DIR", str(folder))
        assert (await run("ls")).exit_code == 0
    finally:
        await server.stop()
    assert (await run("ls")).exit_code == 2


async def test_a_redis_that_is_away_ends_with_3_and_does_not_show_its_password(tmp_path: Path) -> None:
    with start_valkey(tmp_path, port=0) as server:
        url = server.url.replace("redis://", "redis://me:secret@")
    result = await run("ls", "--redis-url", url)
    assert result.exit_code == 3
    assert "secret" not in result.stderr
    assert "broadcaster doctor" in result.stderr


async def test_a_redis_that_refuses_us_ends_with_2_in_one_line(tmp_path: Path) -> None:
    with start_valkey(tmp_path, port=0, options=["--requirepass", "right"]) as server:
        result = await run("ls", "--redis-url", server.url.replace("redis://", "redis://:wrong@"))
    assert result.exit_code == 2
    assert "refuses us" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis://:pw@h:1/0", "redis://***@h:1/0"),
        ("rediss://me:p%40w:@h/0?ssl_password=x&a=b", "rediss://***@h/0?ssl_password=***&a=b"),
        ("unix:///run/s?password=x", "unix:///run/s?password=***"),
    ],
)
def test_secrets_of_a_url_are_masked(url: str, printed: str) -> None:
    assert masked(url) == printed
