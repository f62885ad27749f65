"""What a hurried user types and pipes: each failure is one line that names the culprit and the remedy."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from broadcaster.cli.main import create_app_for
from broadcaster.log.redis.connect import LogConnection
from tests.support.servers.ports import free_port

LIMIT_S = 30.0
NOWHERE = "http://127.0.0.1:1"
NO_PORT = "http://127.0.0.1:99999"


def refusal(*arguments: str, code: int = 2, stdin: str | None = None) -> str:
    result = CliRunner().invoke(create_app_for(arguments), list(arguments), input=stdin)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("error: ").rstrip("\n")


@pytest.mark.parametrize("command", ["tail", "stop", "show", "delete", "publish", "token"])
@pytest.mark.parametrize("id", ["", "a/b", ".."])
def test_an_id_that_no_stream_has_is_refused_before_any_call(command: str, id: str) -> None:
    options = {"publish": ["--create"], "token": ["--ttl", "5"]}.get(command, [])
    assert " is no id: an id is a text without a slash" in refusal(command, id, *options, "--url", NOWHERE)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("generate", ""), "PROMPT is empty"),
        (("generate", "-"), "stdin is empty"),
        (("generate", "--messages", "no.json"), "--messages no.json cannot be read: No such file or directory"),
        (("generate", "--messages", "/"), "--messages / cannot be read: Is a directory"),
        (("generate", "--messages", sys.executable), "it is not UTF-8 text"),
        (("generate", "--messages", os.devnull), "/dev/null holds no JSON list of messages, [{"),
        (("generate", "x", "--metadata", "{"), "--metadata '{' is no JSON object"),
        (("generate", "x", "--metadata", '{"a": 1e999}'), "is no JSON object: Number out of range"),
        (("ls", "--url", "http://127.0.0.1:99999"), "'http://127.0.0.1:99999' has a port that is not a number from 1"),
        (("ls", "--url", "127.0.0.1:8000"), "'127.0.0.1:8000' must begin with http:// or https://"),
        (("ls", "--url", "ftp://me:secret@h"), "'ftp://***@h' must begin with http:// or https://"),
        (("ls", "--url", "http://me:secret@h:99999"), "'http://***@h:99999' has a port that is not a number from 1"),
    ],
)
def test_what_cannot_be_sent_is_named(arguments: tuple[str, ...], text: str) -> None:
    assert text in refusal(*arguments, stdin="")


def test_a_front_end_that_cannot_be_reached_is_named_without_its_password() -> None:
    arguments = ["ls", "--url", "http://me:secret@127.0.0.1:9"]
    result = CliRunner().invoke(create_app_for(arguments), arguments)
    assert result.stderr.startswith("error: cannot connect to http://***@127.0.0.1:9 (")


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999", "127.0.0.1:8000"])
def test_the_doctor_names_an_address_that_leads_nowhere(url: str) -> None:
    arguments = ["doctor", "--json", "--url", url]
    result = CliRunner().invoke(
        create_app_for(arguments), arguments, env={"ANTHROPIC_BASE_URL": NO_PORT, "ANTHROPIC_API_KEY": "a-key"}
    )
    assert result.exit_code == 1, result.output
    details = {(each["group"], each["check"]): each["said"] for each in json.loads(result.stdout)["checks"]}
    assert f"'{url}' " in details["front-end", "answer"]
    assert "InvalidURL" in details["providers", "anthropic"]


@pytest.mark.parametrize(
    ("variable", "value", "fault"),
    [
        ("ALL_PROXY", "socks5://me:s3cret@127.0.0.1:1", "socksio"),
        ("HTTPS_PROXY", "nonsense://me:s3cret@127.0.0.1:1", "ValueError"),
        ("SSL_CERT_FILE", "/gone", "FileNotFoundError"),
    ],
)
def test_the_doctor_names_an_environment_that_permits_no_call(variable: str, value: str, fault: str) -> None:
    arguments = ["doctor", "--json", "--url", "https://front.invalid"]
    result = CliRunner().invoke(create_app_for(arguments), arguments, env={"ANTHROPIC_API_KEY": "k", variable: value})
    assert (result.exit_code, "s3cret" in result.output) == (1, False), result.output
    found = {(each["group"], each["check"]): each for each in json.loads(result.stdout)["checks"]}
    for row in (("front-end", "answer"), ("providers", "anthropic")):
        assert (found[row]["verdict"], fault in found[row]["said"]) == ("fail", True), found[row]
    assert {"machine", "redis"} <= {group for group, _ in found}


def test_a_proxy_that_needs_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    assert "socksio" in refusal("ls", "--url", "https://front.invalid")


@pytest.mark.parametrize("key", ["s3cret\nkey", "s3cret-key "])
@pytest.mark.parametrize("command", [("doctor", "--json"), ("ls",)])
def test_no_command_repeats_anything_of_a_key_that_no_header_can_hold(command: tuple[str, ...], key: str) -> None:
    arguments = [*command, "--url", NOWHERE]
    result = CliRunner().invoke(create_app_for(arguments), arguments, env={"BROADCASTER_API_KEY": key})
    assert "an API key is one line of printable ASCII" in result.output
    assert "s3cret" not in result.output


def test_a_worker_takes_no_arguments() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker", "--concurrency", "5"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: a worker takes no arguments, and got --concurrency 5; ")


def test_an_empty_idempotency_key_starts_nothing() -> None:
    printed = refusal("generate", "x", "--idempotency-key", "", "--url", NOWHERE, code=1)
    assert "idempotency_key is one line of printable ASCII, not ''" in printed


def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    for folder in (file, file / "below", tmp_path / ("long" * 100)):
        assert f"the data folder {folder} cannot be used (" in refusal("up", "--data-dir", str(folder))
    for command in (("key", "ls"), ("dead", "ls")):
        assert "name another with --data-dir" in refusal(*command, "--data-dir", str(tmp_path / ("long" * 100)))


async def test_a_redis_that_does_not_answer_is_named_with_the_reason(connection: LogConnection) -> None:
    port = free_port()
    printed = await asyncio.to_thread(refusal, "key", "ls", "--redis-url", f"redis://127.0.0.1:{port}", code=3)
    assert printed.startswith(f"Redis at redis://127.0.0.1:{port} does not answer (")
    assert "check it with: broadcaster doctor" in printed


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A line of bash in which ``broadcaster`` is this program."""
    program = f'broadcaster() {{ {sys.executable} -m broadcaster "$@"; }}\n{line}'
    return subprocess.run(
        ["bash", "-c", program],
        env={**os.environ, "BROADCASTER_URL": NOWHERE, **variables},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("broadcaster ls >&-", 3),
        ("broadcaster tail nope 2>&-", 3),
        ("broadcaster chat <&-", 2),
        ("broadcaster schema >/dev/full", 1),
        ("broadcaster --help >/dev/full", 1),
        ("broadcaster schema | true; exit ${PIPESTATUS[0]}", 1),
        ("broadcaster generate - < /bin/ls", 2),
    ],
)
def test_streams_that_are_closed_full_or_no_text_end_a_command_without_a_traceback(line: str, code: int) -> None:
    done = shell(line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize("columns", [1, 20, 40])
def test_a_narrow_terminal_loses_nothing_of_a_table(columns: int) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "broadcaster", "doctor", "--settings"],
        stdout=slave,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(slave)
    printed = b""
    try:
        while part := os.read(master, 65_536):
            printed += part
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(master)
    assert process.wait(LIMIT_S) == 0
    assert b"BROADCASTER_WORKER_MEMORY_BYTES" in printed
    assert b"\xe2\x80\xa6" not in printed.split(b"\n")[1]
