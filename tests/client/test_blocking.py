"""The blocking client: the same calls, results and errors as the asynchronous one, on any thread of a program."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from broadcaster.client import AsyncClient, BadAnswer, CannotConnect, Client, ClientError, EntryReceived, StreamEvent
from broadcaster.core.cursor import Cursor
from broadcaster.process.blocking import call_blocking
from tests.client.conftest import STORY, as_log, entries_of, read
from tests.support.servers.sse_server import Exchange, Plan, SseServer

# What a blocking class has in place of each of these; every other name is the same.
NAMES: Final = {"__aenter__": "__enter__", "__aexit__": "__exit__", "aclose": "close_connections"}
# A call ends by itself after its time limit; the rest is what a busy machine may add.
LATE_S: Final = 10.0
# Start of an interpreter on a busy machine.
PROGRAM_S: Final = 60.0


@pytest.fixture
def blocking(server: SseServer) -> Iterator[Client]:
    with Client(server.url, timeout_s=5, idle_timeout_s=5, give_up_after_s=30) as opened:
        yield opened


def signatures(kind: type) -> dict[str, str]:
    """Each public method → its arguments, and what a caller gets from it."""
    methods = {name: each for name, each in vars(kind).items() if inspect.isfunction(each) and _is_public(name)}
    written = {name: str(inspect.signature(each)) for name, each in methods.items()}
    return {name: text.replace("AsyncGenerator[StreamEvent, None]", ITERATED) for name, text in written.items()}


ITERATED: Final = "Generator[StreamEvent, None, None]"


def _is_public(name: str) -> bool:
    return not name.startswith("_") or name.startswith("__")


def test_the_two_clients_have_the_same_methods_with_the_same_arguments_and_results() -> None:
    expected = {NAMES.get(name, name): text for name, text in signatures(AsyncClient).items()}
    assert signatures(Client) == expected
    assert ITERATED in expected["events"]


def test_only_the_calls_of_the_asynchronous_client_are_awaited() -> None:
    awaited = {NAMES.get(name, name) for name, each in vars(AsyncClient).items() if inspect.iscoroutinefunction(each)}
    assert awaited >= {"start", "get", "close_connections"}
    assert not any(inspect.iscoroutinefunction(getattr(Client, name)) for name in awaited if _is_public(name))


async def test_a_stream_is_read_as_the_asynchronous_client_reads_it(
    server: SseServer, client: AsyncClient, blocking: Client
) -> None:
    server.plans.append(server.serve(stop_after=2, clean=False))
    received = await asyncio.to_thread(lambda: list(blocking.events("s")))
    assert entries_of(received) == entries_of(await read(client)) == as_log(*STORY)
    assert server.resumed_after[:2] == [Cursor(0, 0), Cursor(7, 2)]


async def test_many_more_events_than_may_wait_come_in_order_to_a_slow_reader(server: SseServer, blocking: Client):
    server.entries = as_log(*STORY[:2], *([STORY[2]] * 1000), *STORY[4:])
    received = await asyncio.to_thread(lambda: list(blocking.events("s", Cursor(7, 1))))
    assert entries_of(received) == server.entries[1:]


async def test_leaving_the_loop_early_closes_the_connection(server: SseServer, blocking: Client) -> None:
    server.entries = as_log(*STORY[:3])

    def read_one() -> StreamEvent | None:
        for event in blocking.events("s"):
            if isinstance(event, EntryReceived):
                return event
        return None

    first = await asyncio.to_thread(read_one)
    assert isinstance(first, EntryReceived)
    assert first.cursor == Cursor(7, 1)
    await server.wait_for(lambda: server.left == 1)


def answering(document: object) -> Plan:
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps(document).encode(), **{"content-type": "application/json"})

    return plan


async def be_silent(exchange: Exchange) -> None:
    await asyncio.Event().wait()


GENERATION: Final = {"id": "gen_1", "status": "finished", "text": "Hi"}
STATE: Final = {"id": "job", "kind": "feed", "status": "running"}
CALLS: Final[dict[str, tuple[str, str, object, Callable[[Any], Any]]]] = {
    "start": ("POST", "/v1/generations", GENERATION, lambda each: each.start("Hi?", model="m", idempotency_key="k")),
    "get": ("GET", "/v1/generations/gen_1", GENERATION, lambda each: each.get("gen_1", wait_s=1)),
    "list": ("GET", "/v1/generations", {"generations": [GENERATION]}, lambda each: each.list(status="open", limit=5)),
    "stop": ("POST", "/v1/generations/gen_1/stop", GENERATION, lambda each: each.stop("gen_1")),
    "delete": ("DELETE", "/v1/generations/gen_1", None, lambda each: each.delete("gen_1")),
    "create_stream": ("PUT", "/v1/streams/job", STATE, lambda each: each.create_stream("job", lease_s=5)),
    "append": (
        "POST",
        "/v1/streams/job/events",
        {"ids": ["7-1"], "last_id": "7-1", "last_seq": 1},
        lambda each: each.append("job", {"type": "data-x", "data": 1}, idempotency_key="k"),
    ),
    "close": ("POST", "/v1/streams/job/close", STATE, lambda each: each.close("job", {"type": "abort"})),
    "delete_stream": ("DELETE", "/v1/streams/job", None, lambda each: each.delete_stream("job")),
    "stream": ("GET", "/v1/streams/job", STATE, lambda each: each.stream("job", parts=True)),
    "list_streams": (
        "GET",
        "/v1/streams",
        {"streams": [STATE]},
        lambda each: each.list_streams(status="open", limit=5),
    ),
    "create_token": (
        "POST",
        "/v1/streams/job/tokens",
        {"token": "t", "jti": "j", "expires_at": 1.0},
        lambda each: each.create_token("job", actions=["watch", "stop"], ttl_s=5, sub="u", prefix=True),
    ),
    "workers": (
        "GET",
        "/v1/admin/workers",
        {"workers": [{"id": "w", "alive": True}], "alive": 1, "silent": 0},
        lambda each: each.workers(after="v"),
    ),
    "queue": (
        "GET",
        "/v1/admin/queue",
        {"waiting": 1, "delayed": 0, "running": 2, "dead_letters": 0},
        lambda each: each.queue(),
    ),
    "models": ("GET", "/v1/models", {"object": "list", "data": [{"id": "local"}]}, lambda each: each.models()),
    "revoke_tokens": ("POST", "/v1/tokens/revoke", None, lambda each: each.revoke_tokens(jti="j")),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_sends_the_same_request_and_returns_the_same_document(
    server: SseServer, client: AsyncClient, blocking: Client, name: str
) -> None:
    method, path, document, call = CALLS[name]
    server.routes[method, path] = answering(document)
    assert await asyncio.to_thread(call, blocking) == await call(client)
    ours, theirs = server.requests
    assert (ours.method, ours.path, ours.query, ours.body) == (theirs.method, theirs.path, theirs.query, theirs.body)
    assert ours.headers.get("idempotency-key") == theirs.headers.get("idempotency-key")


def test_every_call_is_compared() -> None:
    assert {*CALLS, "events", "close_connections"} == {name for name in signatures(Client) if name[0] != "_"}


async def test_a_refusal_is_raised_with_its_code(server: SseServer, blocking: Client) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.problem(404, "unknown_stream")

    server.routes["GET", "/v1/generations/gen_1"] = refuse
    with pytest.raises(ClientError) as caught:
        await asyncio.to_thread(blocking.get, "gen_1")
    assert (caught.value.code, caught.value.status) == ("unknown_stream", 404)
    server.plans.append(refuse)
    with pytest.raises(ClientError, match="unknown_stream"):
        await asyncio.to_thread(lambda: list(blocking.events("s")))


async def test_an_error_in_the_middle_of_a_stream_comes_after_what_came_before_it(server: SseServer, blocking: Client):
    server.plans.append(server.raw(server.snapshot() + b"id: 7-1\ndata: {}}\n\n"))

    def read_all() -> list[str]:
        names: list[str] = []
        with pytest.raises(BadAnswer):
            names.extend(type(event).__name__ for event in blocking.events("s"))
        return names

    assert await asyncio.to_thread(read_all) == ["Notice"]


async def test_a_server_that_is_silent_holds_a_call_no_longer_than_its_time_limit(server: SseServer) -> None:
    server.routes["GET", "/v1/streams/s"] = be_silent

    def call() -> float:
        begun = time.monotonic()
        with Client(server.url, timeout_s=0.3) as client, pytest.raises(CannotConnect, match=r"within 0\.3 s"):
            client.stream("s")
        return time.monotonic() - begun

    assert await asyncio.to_thread(call) < 0.3 + LATE_S


def test_an_address_that_is_no_url_is_refused_when_the_client_is_made() -> None:
    with pytest.raises(ValueError, match="http://"):
        Client("localhost:8000")


def test_a_call_on_the_loops_own_thread_is_refused_instead_of_waiting_for_itself(server: SseServer) -> None:
    client = Client(server.url)

    async def call_inside() -> None:
        client.get("gen_1")

    with pytest.raises(RuntimeError, match="cannot block"):
        call_blocking(call_inside, limit_s=LATE_S)


INTERRUPTED: Final = """
    import sys
    from broadcaster.client import Client, EntryReceived

    with Client(sys.argv[1]) as client:
        try:
            for event in client.events("s"):
                if isinstance(event, EntryReceived):
                    print("reads", flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
"""


async def test_ctrl_c_ends_a_wait_for_the_next_event_and_closes_the_connection(server: SseServer) -> None:
    server.entries = as_log(STORY[0])
    with _started(INTERRUPTED, server.url) as program:
        assert program.stdout is not None
        assert await asyncio.to_thread(program.stdout.readline) == "reads\n"
        program.send_signal(signal.SIGINT)
        await server.wait_for(lambda: server.left == 1)
        printed, _ = await asyncio.to_thread(program.communicate, timeout=PROGRAM_S)
    assert (program.returncode, printed) == (0, "interrupted\n")


FORKS: Final = """
    import os, sys
    from broadcaster.client import Client, EntryReceived

    with Client(sys.argv[1]) as client:
        events = client.events("s")
        first = next(events)
        pid = os.fork()
        if pid == 0:
            print("child", sum(isinstance(each, EntryReceived) for each in client.events("s")), flush=True)
            try:
                for event in events:
                    pass
            except RuntimeError as error:
                print(error, flush=True)
            os._exit(0)
        os.waitpid(pid, 0)
        print("parent", sum(isinstance(each, EntryReceived) for each in events), flush=True)
"""


async def test_a_forked_child_reads_over_its_own_connection_and_cannot_go_on_with_its_parents(server: SseServer):
    with _started(FORKS, server.url) as program:
        printed, _ = await asyncio.to_thread(program.communicate, timeout=PROGRAM_S)
    count = len(STORY)
    assert printed == (
        f"child {count}\n"
        "this iteration began in the parent process: begin one here, after its last cursor\n"
        f"parent {count}\n"
    )


def _started(program: str, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
