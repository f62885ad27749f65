"""Any order of traffic and faults, over a real server: the history keeps every promise.

Hypothesis draws what happens to one generation: its worker writes, stands still, dies, is robbed of its lease; viewers
come and go; the server is killed with and without its data, put back to an old copy, paused, and its connections cut.
When the example ends, the generation is ended as it would be, every viewer watches to the end, and the checker judges.

In CI a few examples, always the same; with FAULTS_ROUNDS many more, and others each time.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from broadcaster.errors import LogUnavailable, UnknownStream
from broadcaster.log.jobs.claims import Outcome
from broadcaster.log.redis.connect import log_errors
from tests.faults.bench import ANSWER_S, LEASE_S, Bench, open_bench
from tests.faults.conftest import ONCE
from tests.faults.history import Got, check
from tests.support.log.log_world import TENANT
from tests.support.log.valkey import ValkeyServer

ROUNDS = int(os.environ.get("FAULTS_ROUNDS", ONCE))
EXAMPLES = max(6, 4 * ROUNDS)
EXAMPLE_S = 60
MOMENT_S = 0.02


# What a rule does may depend on how fast things went; what is drawn must not: hypothesis counts on it.
class Faults(RuleBasedStateMachine):
    """One generation and all that may befall it."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="bc-")))
        (self.folder / "redis").mkdir()
        self.server = ValkeyServer(self.folder / "redis", appendonly=True)
        self.server.start()
        self.stack.callback(self.server.stop)
        self.written = 0
        self.has_saved = False

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    async def moment(self, seconds: float = MOMENT_S) -> None:
        """Let the parts run."""
        await asyncio.sleep(seconds)

    @initialize()
    def begin(self) -> None:
        async def open_all() -> Bench:
            bench = await self.stack.enter_async_context(open_bench(self.folder, self.server))
            assert await bench.workers[0].take(bench.stream) is Outcome.GRANTED
            bench.view(None)
            return bench

        self.bench: Bench = self.run(open_all())

    # -- traffic

    @rule(count=st.integers(1, 6), waits=st.booleans())
    def write(self, count: int, waits: bool) -> None:
        async def write_texts() -> None:
            for worker in self.bench.workers:  # a zombie goes on as well
                if worker.is_writing:
                    worker.write_texts(*(f"word{self.written + at} " for at in range(count)))
            if waits:
                await self.moment()

        self.written += count
        self.run(write_texts())

    @rule(from_start=st.booleans(), at=st.integers(0, 1000))
    def join(self, from_start: bool, at: int) -> None:
        async def view() -> None:
            ids = [each.id for each in self.bench.viewers[0].trace.happenings if isinstance(each, Got)]
            self.bench.view(None if from_start or not ids else ids[at % len(ids)])
            await self.moment()

        self.run(view())

    @rule()
    def leave(self) -> None:
        async def go() -> None:
            if len(self.bench.watching) > 1:
                self.bench.watching[-1].cancel()
            await self.moment()

        self.run(go())

    @precondition(lambda self: self.written > 3)
    @rule()
    def finish(self) -> None:
        worker = self.bench.writing
        if worker is not None and worker.valve.is_open:
            self.run(worker.end())

    @rule()
    def stop(self) -> None:
        async def call() -> None:
            # Unknown: Redis has lost it, and its worker has not restored it yet.
            with suppress(LogUnavailable, UnknownStream):
                await self.bench.world.generations.stop(self.bench.stream, tenant=TENANT)
            await self.moment()

        self.run(call())

    @rule()
    def wait_a_lease(self) -> None:
        self.run(self.moment(LEASE_S * 1.5))

    # -- faults of workers

    @rule(number=st.integers(0, 1))
    def hold_worker(self, number: int) -> None:
        """SIGSTOP."""
        self.bench.workers[number].valve.close()

    @rule(number=st.integers(0, 1))
    def release_worker(self, number: int) -> None:
        """SIGCONT."""
        self.bench.workers[number].valve.reopen()
        self.run(self.moment())

    @rule(number=st.integers(0, 1))
    def cut_worker(self, number: int) -> None:
        """Its connections break, with what is under way."""
        self.bench.workers[number].valve.cut()
        self.run(self.moment())

    @rule(number=st.integers(0, 1))
    def kill_worker(self, number: int) -> None:
        self.run(self._kill_worker(number))

    async def _kill_worker(self, number: int) -> None:
        """Not before it has restored what Redis lost: the state of an unknown generation is undefined."""
        worker = self.bench.workers[number]
        if worker is not self.bench.writing:
            worker.die()
            return
        with suppress(LogUnavailable):
            if await self.bench.world.streams.meta(self.bench.stream) is not None:
                worker.die()

    @rule(number=st.integers(0, 1))
    def take_over(self, number: int) -> None:
        """A worker checks whether it may run the generation, as it would with the job in its hand."""
        worker = self.bench.workers[number]
        if not worker.is_writing and worker.valve.is_open:
            self.run(worker.take(self.bench.stream))
            self.run(self.moment())

    @rule(number=st.integers(0, 1))
    def rob_lease(self, number: int) -> None:
        """The lease is gone before its time, and another worker takes the stream at once."""

        async def rob() -> None:
            worker = self.bench.workers[number]
            if worker.is_writing or not worker.valve.is_open:
                return
            await self.bench.world.redis.delete(self.bench.world.keys.lease(self.bench.stream))
            await worker.take(self.bench.stream, may_take_over=True)
            await self.moment()

        self.run(self._if_it_answers(rob()))

    # -- faults of the server

    @rule()
    def save(self) -> None:
        self.bench.save()
        self.has_saved = True

    @rule()
    def kill_server(self) -> None:
        self.bench.kill(data="kept")
        self.run(self.moment())

    @rule()
    def kill_server_with_its_data(self) -> None:
        if self.bench.is_held:
            self.bench.kill(data="lost")
            self.run(self.moment())

    @precondition(lambda self: self.has_saved)
    @rule()
    def put_back_an_old_copy(self) -> None:
        if self.bench.is_held:
            self.bench.kill(data="old")
            self.run(self.moment())

    @rule(leases=st.sampled_from([0.3, 1.2, 3.0]))
    def pause_server(self, leases: float) -> None:
        async def pause() -> None:
            self.server.pause()
            await self.moment(LEASE_S * leases)
            self.server.resume()
            await self.moment()

        self.run(pause())

    @rule(kind=st.sampled_from(["pubsub", "normal"]))
    def cut_connections(self, kind: str) -> None:
        async def cut() -> None:
            await self.bench.world.redis.execute_command("CLIENT", "KILL", "TYPE", kind)
            await self.moment()

        self.run(self._if_it_answers(cut()))

    @rule(which=st.sampled_from(["log", "meta", "lease"]))
    def evict(self, which: str) -> None:
        async def delete() -> None:
            if not self.bench.is_held:
                return
            self.bench.is_lossy |= which == "log"
            await self.bench.world.redis.delete(getattr(self.bench.world.keys, which)(self.bench.stream))
            await self.moment()

        self.run(self._if_it_answers(delete()))

    @rule(left=st.integers(1, 5))
    def trim(self, left: int) -> None:
        async def cut() -> None:
            self.bench.is_trimmed = True
            await self.bench.world.redis.xtrim(self.bench.world.keys.log(self.bench.stream), maxlen=left)
            await self.moment()

        self.run(self._if_it_answers(cut()))

    async def _if_it_answers(self, fault: Coroutine[Any, Any, None]) -> None:
        """A connection that an earlier fault left broken is replaced by the next try."""
        try:
            with log_errors():
                await fault
        except LogUnavailable:
            await asyncio.sleep(ANSWER_S)

    # -- the end

    def teardown(self) -> None:
        try:
            if hasattr(self, "bench"):
                self.run(self._judge())
        finally:
            try:
                self.run(self.stack.aclose())
            finally:
                self.runner.close()

    async def _judge(self) -> None:
        await self.bench.finish()
        violations = check(await self.bench.history())
        assert not violations, "\n".join(map(str, violations[:10]))


TestFaults = Faults.TestCase
TestFaults.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=14,
    deadline=None,
    derandomize=ROUNDS == ONCE,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
TestFaults.pytestmark = [  # type: ignore[attr-defined]
    pytest.mark.second_engine,
    pytest.mark.timeout(EXAMPLE_S * EXAMPLES),
]
