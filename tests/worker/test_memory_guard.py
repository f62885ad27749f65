"""A worker close to its memory limit fails the answer that grows: the choice, the limit, and a real worker."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from broadcaster.client import AsyncClient
from broadcaster.log.redis.connect import LogConnection
from broadcaster.log.streams.reader import Meta, Streams
from broadcaster.process.tasks import end_tasks
from broadcaster.testing import ScriptedProvider
from tests.attacks.floods.hostile_provider import hostile_provider
from tests.support.descriptors import no_free_descriptor
from tests.support.log.log_world import until
from tests.support.servers.processes import open_stack
from worker.memory_guard import MemoryGuard, guard_memory, safe_bytes

MB = 2**20
LIMIT = 1000 * MB


class GrowingAnswer:
    """An answer with the size that the test sets."""

    def __init__(self, size_bytes: int = 0) -> None:
        self.size_bytes = size_bytes
        self.is_failed = False

    def fail_for_memory(self) -> None:
        self.is_failed = True


class Process:
    """A worker's answers and its memory, in the test's hands."""

    def __init__(self) -> None:
        self.used_bytes = 0
        self.answers = {name: GrowingAnswer() for name in ("slow", "fast", "large")}
        self.answers["large"].size_bytes = 900 * MB
        self._guard = MemoryGuard(LIMIT, lambda: self.answers, read_bytes=lambda: self.used_bytes)
        self._guard.check()

    def check(self, *, used_bytes: int, **grown_bytes: int) -> list[str]:
        """Let answers grow and the guard check; returns those that have been failed so far."""
        self.used_bytes = used_bytes
        for name, bytes in grown_bytes.items():
            self.answers[name].size_bytes += bytes
        self._guard.check()
        return [name for name, answer in self.answers.items() if answer.is_failed]


@pytest.fixture
def process() -> Process:
    return Process()


def test_below_the_limit_no_answer_is_failed(process: Process) -> None:
    assert process.check(used_bytes=LIMIT - 1, fast=500 * MB) == []


def test_at_the_limit_the_answer_that_grew_most_is_failed_and_not_the_largest(process: Process) -> None:
    assert process.check(used_bytes=LIMIT, slow=1, fast=2) == ["fast"]


def test_when_no_answer_grows_none_is_failed(process: Process) -> None:
    assert process.check(used_bytes=2 * LIMIT) == []
    process.answers.clear()
    assert process.check(used_bytes=2 * LIMIT) == []


def test_another_one_is_failed_only_when_the_memory_has_grown_further(process: Process) -> None:
    assert process.check(used_bytes=LIMIT, fast=2) == ["fast"]
    del process.answers["fast"]
    assert process.check(used_bytes=LIMIT, slow=1) == []
    assert process.check(used_bytes=LIMIT + LIMIT // 50, slow=1) == ["slow"]


def test_memory_that_came_back_is_guarded_as_at_first(process: Process) -> None:
    assert process.check(used_bytes=2 * LIMIT, fast=2) == ["fast"]
    assert process.check(used_bytes=LIMIT // 2) == ["fast"]
    assert process.check(used_bytes=LIMIT, slow=1) == ["slow", "fast"]


@pytest.mark.parametrize(
    ("groups", "limits", "least"),
    [
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "1000000"}, 1_000_000),  # a group above
        ("0::/a/b", {"memory.max": "2000000"}, 2_000_000),  # in a container
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": "3000000"}, 3_000_000),  # version 1
        ("4:memory:/host/path", {"memory/memory.limit_in_bytes": "4000000"}, 4_000_000),
        ("3:cpuset:/a\n0::/", {"memory/memory.limit_in_bytes": "5000000", "memory.max": "6000000"}, 6_000_000),
    ],
)
def test_the_limit_is_nine_tenths_of_the_least_of_the_control_groups(
    tmp_path: Path, groups: str, limits: dict[str, str], least: int
) -> None:
    files = {f"sys/fs/cgroup/{name}": limit for name, limit in limits.items()}
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    assert safe_bytes(tmp_path) == least * 9 // 10


def test_without_control_groups_the_limit_is_a_part_of_the_machines_memory(tmp_path: Path) -> None:
    assert safe_bytes(tmp_path) > 128 * MB


async def test_the_guard_checks_on_while_its_process_is_out_of_descriptors() -> None:
    checks = 0

    def count_check() -> dict[str, GrowingAnswer]:
        nonlocal checks
        checks += 1
        return {}

    guarding = asyncio.create_task(guard_memory(None, count_check))
    await until(lambda: checks > 0)
    with no_free_descriptor():
        before = checks
        await until(lambda: guarding.done() or checks > before + 1)
    assert not guarding.done()
    await end_tasks(guarding)


async def test_an_answer_that_fills_a_workers_memory_is_failed_and_another_one_ends_whole(
    tmp_path: Path, connection: LogConnection
) -> None:
    async with hostile_provider() as evil, ScriptedProvider() as good:
        providers = {"evil": {"wire": "openai", "base_url": evil.base_url}}
        providers["good"] = {"wire": "openai", "base_url": good.openai_base_url}
        settings = {
            "providers": json.dumps(providers),
            "routes": json.dumps({"text": "evil", "*": "good"}),
            "default_model": "m",
            "max_bytes": 400 * MB,
            "lease_ttl_s": 2,
        }
        conversation = good.conversation("m")
        url = connection.url
        async with open_stack(tmp_path, redis_url=url, provider_url="http://127.0.0.1:9", **settings) as stack:
            front_end = await stack.front_end()
            probe = await stack.worker()
            limit_bytes = _resident_bytes(probe.pid) + 40 * MB
            await probe.end()
            worker = await stack.worker(worker_memory_bytes=limit_bytes)
            async with AsyncClient(front_end.url) as client:
                watched = await client.start("hi")
                await conversation.send_text("still ")
                hungry = await client.start("hi", model="text")
                meta = await _over(connection, hungry.id)
                await conversation.send_text("here")
                await conversation.finish()
                final = await client.get(watched.id, wait_s=20)
            assert worker.process.returncode is None
            await worker.logged("memory_low")
    assert (meta.status, meta.attempts, evil.calls) == ("failed", 1, ["text"])
    assert (final.status, final.text, final.attempt) == ("finished", "still here", 1)
    last = await Streams(connection).last(hungry.id)
    assert last is not None
    assert json.loads(last.event)["code"] == "worker_out_of_memory"


async def _over(connection: LogConnection, generation_id: str) -> Meta:
    async with asyncio.timeout(60):
        while True:
            meta = await Streams(connection).meta(generation_id)
            if meta is not None and meta.is_over:
                return meta
            await asyncio.sleep(0.05)


def _resident_bytes(pid: int) -> int:
    [line] = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) * 1024
