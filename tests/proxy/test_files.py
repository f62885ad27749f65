"""The files of deploy/nginx, read by nginx itself, and their numbers beside the front-end's own."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from pathlib import Path

import httpx2
import pytest

from broadcaster.settings import Settings
from broadcaster.web.documents.problem_table import PROBLEMS
from broadcaster.web.documents.problems import problem_response
from broadcaster.web.server.runner import KEEP_ALIVE_S
from tests.support.servers.nginx import DEPLOY, command, create_certificate, lay_out, run_nginx
from tests.support.servers.ports import draw_ports, free_port

UPSTREAM = "server 127.0.0.1:9;\n"
LISTEN = re.compile(r"listen (\[::\]:)?\d+")
SECONDS = re.compile(r"(\d+)s")


# What it may print: this machine's limits are not the deployment's; from 1.25.1 on, the form that Debian's 1.22 needs.
HARMLESS = re.compile(r"RLIMIT_NOFILE|open file resource limit|use the \"http2\" directive instead")


def check(folder: Path, *, file: str = "nginx.conf") -> str:
    """What `nginx -t` prints. Fails when it refuses, or warns."""
    done = subprocess.run(command(folder, "-t", file=file), check=False, capture_output=True, text=True, timeout=30)
    errors = "\n".join(line for line in done.stderr.split("\n") if not HARMLESS.search(line))
    assert done.returncode == 0, errors
    assert not re.search(r"\[(warn|error|crit|alert|emerg)\]", errors), errors
    return errors


def on_free_ports(machine: str) -> str:
    """A machine's file as it is shipped, but for its ports and the folder of its log."""

    def listen(match: re.Match[str]) -> str:
        return f"listen {'[::1]' if match[1] else '127.0.0.1'}:{free_port()}"

    if not has_ipv6():
        machine = re.sub(r"listen \[::\].*", "", machine)
    return LISTEN.sub(listen, machine).replace("/var/log/nginx/", "")


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def value(directive: str, text: str | None = None) -> str:
    """The value of a directive that is there once."""
    found = re.findall(rf"^\s*{directive} (.+);$", text or (DEPLOY / "broadcaster.conf").read_text(), re.MULTILINE)
    assert len(found) == 1, (directive, found)
    return str(found[0])


def seconds(directive: str, text: str | None = None) -> int:
    match = SECONDS.fullmatch(value(directive, text))
    assert match is not None
    return int(match[1])


@pytest.mark.parametrize("machine", ["machine.conf", "machine-tls.conf", "compose-tls.conf"])
def test_nginx_takes_the_files_as_they_are_shipped(tmp_path: Path, machine: str) -> None:
    folder = tmp_path / "nginx"
    upstream = (DEPLOY / "upstream.conf").read_text()
    hosts = re.sub(r"front-end-\d", "127.0.0.1", upstream)
    assert hosts != upstream
    lay_out(folder, upstream=hosts, machine=on_free_ports((DEPLOY / machine).read_text()))
    assert "test is successful" in check(folder)


def test_the_site_is_complete_in_another_http_block(tmp_path: Path) -> None:
    folder = tmp_path / "nginx"
    lay_out(folder, upstream=UPSTREAM, machine=f"listen 127.0.0.1:{free_port()};\n")
    # As Debian's own nginx.conf, in short.
    (folder / "theirs.conf").write_text(
        "events { worker_connections 768; }\n"
        "http { sendfile on; tcp_nopush on; default_type application/octet-stream; gzip on; access_log off;\n"
        "include broadcaster.conf; }\n"
    )
    check(folder, file="theirs.conf")


async def test_plain_http_leads_to_tls_with_path_and_query(tmp_path: Path) -> None:
    folder = tmp_path / "nginx"
    plain, tls = draw_ports(2)
    machine = (DEPLOY / "machine-tls.conf").read_text()
    machine = re.sub(r"listen \[::\].*", "", machine)
    # In this order: the drawn ports may have the digits 443 themselves.
    machine = machine.replace("443", f"127.0.0.1:{tls}").replace("listen 80;", f"listen 127.0.0.1:{plain};")
    lay_out(folder, upstream=UPSTREAM, machine=machine)
    async with (
        run_nginx(folder, plain_port=plain, tls_port=tls) as nginx,
        httpx2.AsyncClient(base_url=nginx.url, trust_env=False) as http,
    ):
        answer = await http.post("/v1/generations?wait=1", json={"prompt": "hi"})
    assert (answer.status_code, answer.headers["location"]) == (308, "https://127.0.0.1/v1/generations?wait=1")


def test_the_bounds_of_nginx_fit_the_front_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BROADCASTER_{name.upper()}", raising=False)
    settings = Settings()
    main, upstream = ((DEPLOY / name).read_text() for name in ("nginx.conf", "upstream.conf"))
    bodies = re.findall(r"client_max_body_size (\d+);", (DEPLOY / "broadcaster.conf").read_text())
    # The second is in the refusal itself.
    assert [int(each) for each in bodies] == [settings.max_body_bytes, 0]
    # Four heartbeats may be lost, and an answer may be waited for as long as a front-end lets it.
    site = (DEPLOY / "broadcaster.conf").read_text()
    streams, answers = site.split("location / {")
    assert seconds("proxy_read_timeout", streams) > 4 * settings.heartbeat_s
    assert seconds("proxy_read_timeout", streams) > settings.long_poll_timeout_s + 10
    assert seconds("proxy_read_timeout", answers) > settings.generation_timeout_s + 10
    # The front-end is the one that cuts a slow viewer.
    assert seconds("send_timeout") > settings.slow_viewer_s
    # nginx closes an idle connection before the front-end does; the client's own keepalive_timeout is in the server.
    upstream_block = site[site.index("upstream broadcaster {") : site.index("}", site.index("upstream broadcaster {"))]
    assert seconds("keepalive_timeout", upstream_block) < KEEP_ALIVE_S
    # A viewer is two connections.
    assert int(value("worker_connections", main)) > 2 * settings.max_viewers
    assert int(value("worker_rlimit_nofile", main)) > int(value("worker_connections", main))
    assert "non_idempotent" not in value("proxy_next_upstream")
    assert all("fail_timeout=5s" in line for line in upstream.split("\n") if line.startswith("server "))


def test_the_responses_of_nginx_are_problems_as_the_front_ends_are() -> None:
    site = (DEPLOY / "broadcaster.conf").read_text()
    answers = {int(status): json.loads(body) for status, body in re.findall(r"return (\d+) '(\{.+\})';", site)}
    assert sorted(answers) == [404, 413, 502]
    assert answers[404] == json.loads(bytes(problem_response("not_found", PROBLEMS["not_found"].example).body))
    assert answers[413] == json.loads(bytes(problem_response("body_too_large", answers[413]["detail"]).body))
    assert answers[502].keys() == answers[404].keys()
    assert (answers[502]["code"], answers[502]["retry"]) == ("no_front_end", True)


def test_a_certificate_is_expected_beside_the_files(tmp_path: Path) -> None:
    shared = (DEPLOY / "tls.conf").read_text()
    create_certificate(tmp_path)
    for directive in ("ssl_certificate", "ssl_certificate_key"):
        assert (tmp_path / value(directive, shared)).is_file()
