"""deploy/redis on a real server: it starts, keeps what it is given, and its users may do what they need, no more."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from broadcaster.cli.doctor.redis import CHECKS, Seen
from broadcaster.cli.doctor.table import Grade
from broadcaster.log.inspection.redis_facts import inspect
from broadcaster.log.redis.connect import LogConnection
from tests.deploy.files import DEPLOY, FILLED_IN, ROOT
from tests.deploy.valkey import ADMIN, DeployedValkey, start_deployed

pytestmark = pytest.mark.second_engine

LOG = ROOT / "broadcaster" / "log"
ENVIRONMENT = {"VALKEY_PASSWORD": FILLED_IN, "VALKEY_ADMIN_PASSWORD": ADMIN}
LOGIN = f"AUTH broadcaster {FILLED_IN}"
# What redis-py names otherwise than Redis, or Redis with two names.
COMMANDS = {
    "client_id": "client|id",
    "delete": "del",
    "config_get": "config|get",
    "xgroup_create": "xgroup|create",
    "xgroup_delconsumer": "xgroup|delconsumer",
    "xinfo_consumers": "xinfo|consumers",
}
# Only `broadcaster doctor` sends them, and reports what it could not see.
DOCTORS = {"config|get", "scan"}
NOT_COMMANDS = {
    *("aclose", "clock", "connection_pool", "execute", "identities", "now_ms", "pipeline"),
    *("impatient", "key_of", "primaries", "pubsub", "response_callbacks", "send_all", "server_of", "servers_of"),
}
# Workers of the version before send it: while a deployment is rolled they run beside the new ones.
EARLIER = {"xautoclaim"}
# Behind Sentinels and on a cluster these are sent as they are (log/redis/topology).
ROUTED = {"asking", "cluster|info", "cluster|slots", "role"}


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployedValkey]:
    with start_deployed(tmp_path_factory.mktemp("valkey"), ENVIRONMENT) as server:
        yield server


def rights() -> set[str]:
    """The commands that the user `broadcaster` may send."""
    text = (DEPLOY / "redis" / "users.acl").read_text()
    own = text[text.index("user broadcaster") : text.index("user admin")]
    return {
        word[1:]
        for line in own.split("\n")
        if not line.strip().startswith("#")
        for word in line.split()
        if word[0] == "+"
    }


def in_scripts() -> set[str]:
    """Every command that a script calls."""
    texts = (path.read_text() for path in LOG.rglob("*.lua"))
    calls = re.compile(r"redis\.p?call\(\s*'(\w+)'(?:,\s*'(\w+)')?")
    named = {(name.lower(), word.lower()) for text in texts for name, word in calls.findall(text)}
    return {COMMANDS.get(f"{name}_{word}", name) for name, word in named}


def in_python() -> set[str]:
    """Every method of a client or pipeline that this room names, as the command it sends."""
    named = {
        node.attr
        for path in LOG.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and re.search(r"(^|[._])(redis|client|pipeline)$", ast.unparse(node.value))
    }
    # redis-py sends ZREVRANGE for it.
    backwards = {"zrevrange" for path in LOG.rglob("*.py") if re.search(r"\.zrange\([^\n]*desc=True", path.read_text())}
    return backwards | {COMMANDS.get(name, name) for name in named - NOT_COMMANDS}


def test_every_command_that_is_sent_is_allowed_and_none_that_is_not() -> None:
    subscribing = set(re.findall(r'"(s(?:un)?subscribe)"', (LOG / "pubsub" / "session.py").read_text().lower()))
    assert len(subscribing) == 2
    needed = (in_scripts() | in_python() | subscribing | ROUTED | {"ping", "eval", "evalsha"}) - DOCTORS
    needed |= EARLIER
    # redis-py names itself on its own.
    needed.add("client|setinfo")
    assert (needed - rights(), rights() - needed) == (set(), set())


def test_every_key_and_channel_is_under_the_prefix_that_the_user_may_use(valkey: DeployedValkey) -> None:
    for arguments in ("GET other", "SET bcx 1", "SPUBLISH other:{a}:live x", "SSUBSCRIBE other", "XADD other 1-1 e x"):
        assert b"NOPERM" in valkey.call(LOGIN, arguments), arguments
    assert b"NOPERM" not in valkey.call(LOGIN, "SET bc:{x}:meta 1", "DEL bc:{x}:meta", "SPUBLISH bc:{x}:live x")


@pytest.mark.parametrize(
    "arguments",
    [
        "FLUSHALL",
        "KEYS *",
        "SCAN 0",
        "CONFIG GET *",
        "CLIENT LIST",
        "SUBSCRIBE a",
        "FLUSHDB",
        "ACL LIST",
        "SHUTDOWN",
    ],
)
def test_nothing_that_reaches_beyond_its_streams_is_allowed(arguments: str, valkey: DeployedValkey) -> None:
    assert b"NOPERM" in valkey.call(LOGIN, arguments)


def test_no_client_connects_without_a_user_and_the_health_check_receives_pong_alone(valkey: DeployedValkey) -> None:
    assert b"NOAUTH" in valkey.call("GET bc:x")
    assert b"WRONGPASS" in valkey.call("AUTH broadcaster wrong")
    for password in (FILLED_IN, "-", '""'):
        assert b"WRONGPASS" in valkey.call(f"AUTH default {password}")
    assert b"NOPERM" in valkey.call("AUTH health -", "GET bc:x")
    assert b"NOPERM" in valkey.call("AUTH health -", "INFO")


def test_no_password_is_in_the_servers_files_or_environment(valkey: DeployedValkey) -> None:
    assert valkey.process is not None
    held = Path(f"/proc/{valkey.process.pid}/environ").read_bytes()
    written = b"".join(path.read_bytes() for path in valkey.folder.rglob("*") if path.is_file())
    for password in (FILLED_IN, ADMIN):
        assert password.encode() not in held + written
    assert (valkey.folder / "users.acl").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("password", ["", "too-short", "with a space in between", "with/slash/as/in/a/url"])
def test_the_server_does_not_start_with_an_unfit_password(password: str, tmp_path: Path) -> None:
    command = ["/bin/sh", str(DEPLOY / "redis" / "start.sh")]
    environment = {"PATH": "/usr/bin:/bin", "VALKEY_PASSWORD": password, "VALKEY_DATA": str(tmp_path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (ended.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "VALKEY_PASSWORD" in ended.stderr


def test_without_an_admins_password_there_is_no_admin(tmp_path: Path) -> None:
    with start_deployed(tmp_path / "data", {"VALKEY_PASSWORD": FILLED_IN, "VALKEY_ADMIN_PASSWORD": ""}) as server:
        assert b"WRONGPASS" in server.call("AUTH admin -")
        assert b"WRONGPASS" in server.call(f"AUTH admin {FILLED_IN}")


async def test_the_doctor_finds_no_fault_with_it(valkey: DeployedValkey) -> None:
    async with LogConnection(valkey.admin_url) as connection:
        facts = await inspect(connection)
    seen = Seen(facts=facts, url="", prefix="bc", concurrency=100, max_queue=10_000)
    findings = [check.judge(seen) for check in CHECKS]
    assert [each for each in findings if each.grade is not Grade.OK and each.check != "workers"] == []


async def test_the_doctor_works_with_the_rights_of_a_worker_and_reports_what_it_cannot_read(
    valkey: DeployedValkey,
) -> None:
    async with LogConnection(valkey.url("broadcaster", FILLED_IN)) as connection:
        facts = await inspect(connection)
    assert (facts.script_fault, facts.push_fault, facts.policy) == (None, None, "noeviction")
    assert (facts.pubsub_limit, facts.idle_timeout_s) == (None, None)


def test_an_acknowledged_write_is_there_after_the_server_was_killed(tmp_path: Path) -> None:
    with start_deployed(tmp_path / "data", ENVIRONMENT) as server:
        # Two commands of a script are a transaction in the file, and that is read with the rights of a user.
        script = (
            "EVAL \"redis.call('SET', KEYS[1], 'kept') return redis.call('PEXPIRE', KEYS[1], 60000)\" 1 bc:{x}:meta"
        )
        assert b":1" in server.call(LOGIN, script)
        server.kill()
        server.start()
        assert b"kept" in server.call(LOGIN, "GET bc:{x}:meta")
        assert "CRITICAL" not in server.logged()
