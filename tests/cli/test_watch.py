"""``generate``, ``tail``, ``stop`` and ``ls`` against a real server."""

from __future__ import annotations

import json
import signal
import time

import pytest

from broadcaster.core.events import Abort, Attempt, Error, TextDelta
from broadcaster.core.sse import encode_frame
from tests.cli.conftest import ID, STORY, as_log, run
from tests.support.servers.sse_server import Exchange, SseServer, frame


async def test_generate_prints_the_answer_and_the_id_beside_it(server):
    result = await run("generate", "Why?", "--model", "local", "--max-tokens", "5")
    assert (result.exit_code, result.stdout) == (0, "Héllo\n")
    assert ID in result.stderr
    assert server.requests[0].body == {"prompt": "Why?", "model": "local", "max_tokens": 5}


async def test_an_unknown_model_is_named_with_those_that_are_nearest(server):
    async def refuse(exchange: Exchange) -> None:
        await exchange.problem(400, "unknown_model")

    async def models(exchange: Exchange) -> None:
        names = ("claude-sonnet-4-5", "gpt-5-mini", "local")
        await exchange.answer(200, json.dumps({"object": "list", "data": [{"id": name} for name in names]}).encode())

    server.routes["POST", "/v1/generations"] = refuse
    server.routes["GET", "/v1/models"] = models
    near = await run("generate", "Why?", "--model", "claud-sonet-4.5")
    assert near.exit_code == 1
    assert "no route serves the model 'claud-sonet-4.5'" in near.stderr
    assert "the nearest of the 3 listed: claude-sonnet-4-5;" in near.stderr
    far = await run("generate", "Why?", "--model", "xyz")
    assert "3 listed: claude-sonnet-4-5, gpt-5-mini, local;" in far.stderr
    del server.routes["GET", "/v1/models"]
    assert "unknown_model: it is unknown_model" in (await run("generate", "Why?", "--model", "xyz")).stderr


async def test_generate_without_watching_prints_the_id_alone(server):
    result = await run("generate", "Why?", "--no-watch")
    assert (result.exit_code, result.stdout) == (0, f"{ID}\n")
    assert len(server.requests) == 1


async def test_generate_reads_a_dash_from_stdin(server):
    await run("generate", "-", "--no-watch", stdin="a long\nprompt\n")
    assert server.requests[0].body == {"prompt": "a long\nprompt\n"}


async def test_the_options_of_generate_are_the_fields_of_the_request(server):
    given = {"temperature": 0.5, "system": "be brief", "on_worker_loss": "fail", "metadata": {"chat": [42]}}
    options = (
        "--temperature",
        "0.5",
        "--system",
        "be brief",
        "--on-worker-loss",
        "fail",
        "--metadata",
        '{"chat": [42]}',
    )
    await run("generate", "Why?", "--no-watch", *options, "--idempotency-key", "k-1")
    assert server.requests[0].body == {"prompt": "Why?", **given}
    assert server.requests[0].headers["idempotency-key"] == "k-1"


async def test_generate_continues_a_conversation_from_a_file_or_from_stdin(server, tmp_path):
    earlier = [{"role": "user", "content": "I am Robin"}, {"role": "assistant", "content": "Hello Robin"}]
    (tmp_path / "chat.json").write_text(json.dumps(earlier))
    await run("generate", "Who am I?", "--messages", str(tmp_path / "chat.json"), "--no-watch")
    await run("generate", "--messages", "-", "--no-watch", stdin=json.dumps(earlier[:1]))
    assert [request.body for request in server.requests] == [
        {"messages": [*earlier, {"role": "user", "content": "Who am I?"}]},
        {"messages": earlier[:1]},
    ]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), "PROMPT"),
        (("-", "--messages", "-"), "--messages"),
        (("--messages", "/nowhere.json"), "/nowhere.json"),
        (("--messages", "/dev/null"), "--messages /dev/null"),
        (("x", "--metadata", "[1]"), "--metadata"),
        (("x", "--metadata", "{"), "--metadata"),
        (("x", "--temperature", "3"), "--temperature"),
    ],
)
async def test_wrong_options_of_generate_end_with_2_and_are_named(server, options, named):
    result = await run("generate", *options)
    assert (result.exit_code, result.stdout, server.requests) == (2, "", [])
    assert named in result.stderr


async def test_tail_prints_a_stream_from_its_beginning_or_after_a_cursor(server):
    assert (await run("tail", ID)).stdout == "Héllo\n"
    assert (await run("tail", ID, "--after", "7-3")).stdout == "llo\n"
    assert str(server.resumed_after[-1]) == "7-3"


async def test_json_is_one_object_a_line_with_the_stored_event(server):
    result = await run("tail", ID, "--json")
    lines = [json.loads(line) for line in result.stdout.strip().split("\n")]
    assert lines[0] == {"kind": "notice", "name": "hub.hello", "data": {"id": "s", "status": "running"}}
    assert [line["id"] for line in lines[1:]] == [str(entry.cursor) for entry in server.entries]
    assert [line["event"] for line in lines[1:]] == [json.loads(entry.event) for entry in server.entries]


@pytest.mark.parametrize(
    ("terminal", "message"),
    [(Error(code="worker_lost", error_text="gone"), "worker_lost"), (Abort(reason="stopped"), "stopped")],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_an_incomplete_answer_ends_with_1_and_the_reason(server, terminal, message, options):
    server.entries[:] = as_log(*STORY[:-1], terminal)
    result = await run("tail", ID, *options)
    assert result.exit_code == 1
    assert message in result.output


@pytest.mark.parametrize("options", [(), ("--json",)])
async def test_tail_of_an_answer_whose_log_has_expired_ends_with_4(server, options):
    last = server.entries[-1]
    gap = encode_frame(b'{"reason":"expired","from":1,"to":5}', id=str(server.entries[-2].cursor), event="hub.gap")
    server.plans.append(server.raw(gap + frame(last)))
    result = await run("tail", ID, *options)
    assert result.exit_code == 4
    assert "expired" in result.output


async def test_connections_that_break_show_in_no_letter_of_the_answer(server):
    server.plans.extend(server.serve(stop_after=1, clean=bool(at % 2)) for at in range(4))
    result = await run("generate", "Why?")
    assert (result.exit_code, result.stdout) == (0, "Héllo\n")


async def test_a_new_attempt_prints_that_the_text_before_is_void(server):
    server.entries[:] = as_log(TextDelta(id="0", delta="half"), Attempt(attempt=2), *STORY)
    result = await run("tail", ID)
    assert "attempt 2 (worker_lost)" in result.stderr
    assert result.stdout.endswith("Héllo\n")


async def test_stop_calls_the_front_end(server):
    result = await run("stop", ID)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", f"stop of {ID} requested\n")
    assert [(request.method, request.path) for request in server.requests] == [("POST", f"/v1/generations/{ID}/stop")]


async def test_stop_of_a_generation_that_is_over_prints_that_and_programs_read_it_as_json(server):
    async def over(exchange: Exchange) -> None:
        await exchange.answer(202, json.dumps({"id": ID, "status": "finished"}).encode())

    server.routes["POST", f"/v1/generations/{ID}/stop"] = over
    assert (await run("stop", ID)).stderr == f"{ID} is over: finished\n"
    printed = json.loads((await run("stop", ID, "--json")).stdout)
    assert (printed["id"], printed["status"], "text" in printed) == (ID, "finished", False)


async def test_delete_deletes_generations_and_feeds(server):
    async def deleted(exchange: Exchange) -> None:
        await exchange.answer(204)

    async def unknown(exchange: Exchange) -> None:
        await exchange.problem(404, "unknown_stream")

    server.routes["DELETE", f"/v1/generations/{ID}"] = deleted
    server.routes["DELETE", "/v1/generations/nightly"] = unknown
    server.routes["DELETE", "/v1/streams/nightly"] = deleted
    result = await run("delete", ID, "nightly")
    assert (result.exit_code, result.stderr) == (0, f"{ID} is deleted\nnightly is deleted\n")
    server.routes["DELETE", "/v1/streams/nightly"] = unknown
    result = await run("delete", "nightly", ID, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "unknown_stream" in result.stderr


def listing(*streams: dict):
    async def plan(exchange: Exchange) -> None:
        await exchange.answer(200, json.dumps({"streams": streams}).encode())

    return plan


async def test_ls_shows_a_row_for_each_generation_and_each_feed(server):
    server.routes["GET", "/v1/streams"] = listing(
        {
            "id": "gen_a",
            "kind": "generation",
            "status": "running",
            "model": "[red]x",
            "created_at": time.time() - 120,
            "last_seq": 7,
            "viewers": 2,
        },
        {
            "id": "gen_b",
            "kind": "generation",
            "status": "finished",
            "model": "local\x1b[2J",
            "created_at": time.time() + 60,
            "last_seq": 12,
        },
        {"id": "nightly", "kind": "feed", "status": "running", "created_at": time.time() - 185, "last_seq": 1},
    )
    result = await run("ls")
    rows = [line.split() for line in result.stdout.strip().split("\n")]
    assert rows == [
        ["ID", "KIND", "STATUS", "MODEL", "AGE", "EVENTS", "VIEWERS"],
        ["gen_a", "generation", "running", "[red]x", "2m", "7", "2"],
        ["gen_b", "generation", "finished", "local\N{REPLACEMENT CHARACTER}[2J", "0s", "12", "0"],
        ["nightly", "feed", "running", "3m", "1", "0"],
    ]


async def test_ls_can_be_read_by_programs(server):
    server.routes["GET", "/v1/streams"] = listing({"id": "gen_a", "kind": "generation", "status": "running"})
    assert [row["id"] for row in json.loads((await run("ls", "--json")).stdout)] == ["gen_a"]


@pytest.mark.parametrize(("options", "status"), [((), "open"), (("--all",), "all")])
async def test_ls_lists_open_ones_or_all_of_them_to_the_last_page(server, options, status):
    async def page(exchange: Exchange) -> None:
        is_first = "before" not in exchange.request.query
        rows = [{"id": "gen_b" if is_first else "a", "kind": "feed", "status": "running"}]
        await exchange.answer(200, json.dumps({"streams": rows, "next_before": "9" if is_first else None}).encode())

    server.routes["GET", "/v1/streams"] = page
    result = await run("ls", "--json", *options)
    assert [row["id"] for row in json.loads(result.stdout)] == ["gen_b", "a"]
    assert {request.query["status"] for request in server.requests} == {status}


@pytest.mark.parametrize(("status", "page"), [("failed", "over"), ("queued", "open")])
async def test_ls_lists_only_those_with_a_status(server, status, page):
    rows = [{"id": each, "kind": "generation", "status": each} for each in ("queued", "running", "failed", "finished")]
    server.routes["GET", "/v1/streams"] = listing(*rows)
    result = await run("ls", "--json", "--status", status)
    assert [row["id"] for row in json.loads(result.stdout)] == [status]
    assert {request.query["status"] for request in server.requests} == {page}
    server.routes["GET", "/v1/streams"] = listing()
    assert f"no feed is {status}" in (await run("ls", "--status", status)).stderr


async def test_an_empty_key_is_none(server, monkeypatch):
    monkeypatch.setenv("BROADCASTER_API_KEY", "")
    server.routes["GET", "/v1/streams"] = listing()
    result = await run("ls")
    assert result.exit_code == 0, result.output
    assert "authorization" not in server.requests[-1].headers


async def test_ls_of_an_empty_list_prints_how_to_begin(server):
    server.routes["GET", "/v1/streams"] = listing()
    result = await run("ls")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "broadcaster generate" in result.stderr


# ---------------------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    "command", [("ls",), ("stop", ID), ("tail", ID), ("show", ID), ("generate", "x"), ("delete", ID), ("top",)]
)
async def test_without_a_front_end_a_command_ends_with_3_and_one_line(command):
    async with SseServer() as server:
        url = server.url
    result = await run(*command, "--url", url)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.count("\n") == 1
    assert "broadcaster up" in result.stderr
    assert url in result.stderr


async def test_a_refusal_ends_with_1_and_its_code_and_remedy(server):
    async def unknown(exchange: Exchange) -> None:
        await exchange.problem(404, "unknown_stream")

    server.plans.append(unknown)
    result = await run("tail", "nothing")
    assert result.exit_code == 1
    failure = "unknown_stream: nothing: it is unknown_stream; see what there is with: broadcaster ls --all"
    assert result.stderr == f"error: {failure}\n"


@pytest.mark.parametrize(
    "command",
    [
        ("tail", ID, "--after", "07-1"),
        ("tail",),
        ("nonsense",),
        ("ls", "--url", "nonsense"),
        ("generate", "x", "--max-tokens", "0"),
    ],
)
async def test_a_wrong_command_ends_with_2_before_anything_is_sent(server, command):
    result = await run(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert server.requests == []


async def test_wrong_settings_end_with_2_and_name_the_variable(server, monkeypatch):
    monkeypatch.setenv("BROADCASTER_PORT", "many")
    result = await run("ls")
    assert result.exit_code == 2
    assert "BROADCASTER_PORT" in result.stderr
    assert result.stderr.count("\n") == 1


async def test_the_key_of_the_environment_is_sent(server, monkeypatch):
    monkeypatch.setenv("BROADCASTER_API_KEY", "secret")
    await run("ls")
    assert server.requests[0].headers["authorization"] == "Bearer secret"


# --------------------------------------------------------------------------------------------------------- processes


async def test_text_is_printed_as_it_comes_and_ctrl_c_leaves_the_generation_running(server, start):
    server.entries[:] = as_log(*STORY)[:3]
    command = await start("generate", "Why?")
    assert await command.read_until("Hé") == "Hé"
    command.process.send_signal(signal.SIGINT)
    code, out, err = await command.finish()
    assert (code, out) == (130, "\n")
    assert f"broadcaster tail {ID}" in err
    assert "Traceback" not in err
    assert not [request for request in server.requests if request.path.endswith("/stop")]


async def test_a_restart_of_the_front_end_is_printed_once_and_costs_no_letter(server, start):
    *begun, rest, end, terminal = as_log(*STORY)
    server.entries[:] = begun
    command = await start("tail", ID)
    printed = await command.read_until("Hé")
    await server.stop()
    notes = await command.read_notes_until("reconnecting…")
    server.entries[:] = [*begun, rest, end, terminal]
    await server.start()
    code, out, err = await command.finish()
    assert (code, printed + out) == (0, "Héllo\n")
    assert (notes + err).count("reconnecting") == 1


async def test_a_reader_that_closes_the_pipe_ends_the_command_without_a_trace(server, start):
    server.entries[:] = as_log(*(TextDelta(id="0", delta="x" * 100_000) for _ in range(50)), *STORY)
    command = await start("tail", ID)
    await command.read_until("x")
    command.process.stdout._transport.close()
    code, _, err = await command.finish()
    assert code == 1
    assert "Traceback" not in err
