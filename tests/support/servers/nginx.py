"""A real nginx that serves with the files of deploy/nginx, on free ports before the front-ends of a test.

``nginx.conf`` and ``broadcaster.conf`` are the very files (links to them). A machine's own two files are written for
the test: where the front-ends are, and where nginx listens and puts its log and its temporary files. The rest is said
by the command line: a folder of its own, a pid file in it, no daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from broadcaster.process.lifeline import die_with_parent
from tests.support.servers.ports import draw_ports
from tests.support.servers.programs import find_program

DEPLOY: Final = Path(__file__).resolve().parents[3] / "deploy" / "nginx"
# It also makes the folders of modules that are not used here.
TEMPORARY: Final = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
START_TIMEOUT_S: Final = 30.0


def find_nginx() -> str:
    """The program's path."""
    return find_program("nginx", remedy="get one with `make nginx`, or install it, e.g. apt install nginx")


def create_certificate(folder: Path) -> None:
    """``certificate/fullchain.pem`` and ``privkey.pem`` for localhost."""
    target = folder / "certificate"
    target.mkdir()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-keyout", f"{target}/privkey.pem", "-out", f"{target}/fullchain.pem", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )


def lay_out(folder: Path, *, upstream: str, machine: str, edits: Mapping[str, str] | None = None) -> None:
    """The files side by side, as a machine has them. ``edits``: texts of the site to replace, each there once."""
    folder.mkdir()
    (folder / "temporary").mkdir()
    create_certificate(folder)
    (folder / "nginx.conf").symlink_to(DEPLOY / "nginx.conf")
    if edits:
        site = (DEPLOY / "broadcaster.conf").read_text()
        for old, new in edits.items():
            assert site.count(old) == 1, f"{old!r} is {site.count(old)} times in broadcaster.conf"
            site = site.replace(old, new)
        (folder / "broadcaster.conf").write_text(site)
    else:
        (folder / "broadcaster.conf").symlink_to(DEPLOY / "broadcaster.conf")
    (folder / "tls.conf").write_text((DEPLOY / "tls.conf").read_text().replace("/var/log/nginx/", ""))
    temporary = "".join(f"{each}_temp_path temporary/{each};\n" for each in TEMPORARY)
    (folder / "upstream.conf").write_text(upstream)
    (folder / "machine.conf").write_text(machine + temporary)


def command(folder: Path, *arguments: str, file: str = "nginx.conf") -> list[str]:
    """The command line for the files in ``folder``."""
    # Started by root, its workers would be user nobody, which may not enter a test's folder.
    user = f" user {getpass.getuser()};" if os.getuid() == 0 else ""
    globals = f"daemon off; pid {folder}/nginx.pid;{user}"
    return [find_nginx(), "-p", f"{folder}/", "-c", str(folder / file), "-g", globals, *arguments]


@dataclass(eq=False)
class Nginx:
    """One running nginx."""

    folder: Path
    plain_port: int
    tls_port: int
    process: asyncio.subprocess.Process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.plain_port}"

    @property
    def tls_url(self) -> str:
        """HTTP/2 for clients that offer it, else HTTP/1.1."""
        return f"https://localhost:{self.tls_port}"

    def trust(self) -> ssl.SSLContext:
        """What a client needs to believe its certificate."""
        return ssl.create_default_context(cafile=str(self.folder / "certificate" / "fullchain.pem"))

    def requests(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        return [json.loads(line) for line in (self.folder / "access.log").read_text().split("\n") if line]

    async def end(self) -> None:
        """SIGTERM: it closes everything at once."""
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


@asynccontextmanager
async def open_nginx(
    folder: Path, front_ends: Sequence[str], *, edits: Mapping[str, str] | None = None
) -> AsyncIterator[Nginx]:
    """An nginx before the front-ends at these URLs; ``folder`` must not be there yet."""
    plain_port, tls_port = draw_ports(2)
    lay_out(
        folder,
        upstream="".join(f"server {urlsplit(url).netloc} max_fails=2 fail_timeout=5s;\n" for url in front_ends),
        machine=f"listen 127.0.0.1:{plain_port} sndbuf=256k;\nlisten 127.0.0.1:{tls_port} ssl http2 sndbuf=256k;\n"
        "ssl_certificate certificate/fullchain.pem;\nssl_certificate_key certificate/privkey.pem;\n"
        "access_log access.log broadcaster;\n",
        edits=edits,
    )
    async with run_nginx(folder, plain_port=plain_port, tls_port=tls_port) as nginx:
        yield nginx


@asynccontextmanager
async def run_nginx(folder: Path, *, plain_port: int, tls_port: int) -> AsyncIterator[Nginx]:
    """An nginx with the files in ``folder``, which name these ports."""
    with (folder / "output.log").open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command(folder), stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=die_with_parent
        )
    nginx = Nginx(folder, plain_port, tls_port, process)
    try:
        await _until_open(nginx)
        yield nginx
    finally:
        await nginx.end()


async def _until_open(nginx: Nginx) -> None:
    async with asyncio.timeout(START_TIMEOUT_S):
        while True:
            assert nginx.process.returncode is None, (nginx.folder / "output.log").read_text()
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", nginx.plain_port)
                writer.close()
                return
            await asyncio.sleep(0.01)
