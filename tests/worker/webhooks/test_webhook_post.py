"""One call of a webhook: which addresses it reaches, what it sends, and every way it can fail."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from broadcaster.webhooks.url import WebhookHosts, WebhookUrl
from tests.support.servers.certificates import self_signed_certificate, serving_with
from tests.support.servers.webhook_receiver import Reply, open_receiver
from worker.webhooks.post import (
    INTERIM_HEADS,
    POLITE_BYTES,
    PostFailed,
    Resolve,
    WebhookPoster,
    WebhookResponse,
)

LOOPBACK = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 443))]
LISTED = WebhookHosts(["hooks.example.com", "*.example.net", "localhost", "127.0.0.1"])


def resolver(*addresses: str) -> Resolve:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def poster(
    *,
    resolve: Resolve | None = None,
    hosts: WebhookHosts = LISTED,
    timeout_s: float = 5,
    verify: ssl.SSLContext | bool = True,
) -> WebhookPoster:
    return WebhookPoster(hosts, timeout_s=timeout_s, resolve=resolve, verify=verify)


async def post(url: str, **options: object) -> WebhookResponse:
    caller = poster(**options)  # type: ignore[arg-type]
    async with asyncio.timeout(20):
        return await caller.post(WebhookUrl.parse(url), headers={"webhook-id": "m"}, body=b'{"a":1}')


async def fault_of(url: str, **options: object) -> tuple[str, bool]:
    with pytest.raises(PostFailed) as failed:
        await post(url, **options)
    return failed.value.fault, failed.value.is_final


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of hooks.example.com, with its key in the same file."""
    folder, host = tmp_path_factory.mktemp("tls"), "hooks.example.com"
    return self_signed_certificate(folder, name=host, alternative=f"DNS:{host}")


async def test_the_call_is_exactly_the_request() -> None:
    async with open_receiver(default=Reply(204)) as receiver:
        target = "/a%2Fb;c=[d]?token=x&y='z'"
        answer = await post(f"http://127.0.0.1:{receiver.port}{target}")
    (call,) = receiver.calls
    assert answer == WebhookResponse(204, 0.0)
    assert (call.target, call.body) == (target, b'{"a":1}')
    assert call.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "connection": "close",
        "webhook-id": "m",
        "content-length": "7",
    }


@pytest.mark.parametrize(
    ("addresses", "url"),
    [
        (["169.254.169.254"], "https://hooks.example.com/"),  # a name listed exactly, but metadata services
        (["::ffff:169.254.169.254"], "https://hooks.example.com/"),
        (["0.0.0.0"], "https://hooks.example.com/"),
        (["127.0.0.1"], "https://a.example.net/"),
        (["10.0.0.1", "192.168.0.1", "fd00::1"], "https://a.example.net/"),
        (["::1"], "https://a.example.net/"),
        (["fe80::1%eth0"], "https://a.example.net/"),
        (["10.0.0.1"], "http://localhost/"),
    ],
)
async def test_a_name_that_resolves_to_where_it_must_not_is_given_up(addresses: list[str], url: str) -> None:
    assert await fault_of(url, resolve=resolver(*addresses)) == ("address_refused", True)


async def test_a_connection_goes_to_the_checked_address_although_the_name_resolves_differently_later(
    certificate: Path,
) -> None:
    # The resolver returns it once; if anything below resolved it again, the system would not know the host.
    lookups: list[str] = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        lookups.append(host)
        return ["127.0.0.1"]

    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    async with open_receiver(tls=serving_with(certificate)) as receiver:
        url = f"https://hooks.example.com:{receiver.port}/h"
        assert (await post(url, resolve=resolve, verify=trusting)).status == 200
    assert lookups == ["hooks.example.com"]
    assert receiver.calls[0].headers["host"] == f"hooks.example.com:{receiver.port}"


async def test_a_certificate_of_another_name_or_of_an_unknown_issuer_is_refused(certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=f"{certificate}.crt")
    hosts = WebhookHosts(["other.example.com", "hooks.example.com"])
    async with open_receiver(tls=serving_with(certificate)) as receiver:
        options = {"hosts": hosts, "resolve": resolver("127.0.0.1")}
        other, ours = (f"https://{name}.example.com:{receiver.port}/" for name in ("other", "hooks"))
        assert await fault_of(other, verify=trusting, **options) == ("tls", False)
        assert await fault_of(ours, **options) == ("tls", False)
    assert receiver.calls == []


async def test_the_next_address_is_tried_when_one_cannot_be_reached() -> None:
    async with open_receiver() as receiver:  # which listens on 127.0.0.1 alone
        answer = await post(f"http://localhost:{receiver.port}/", resolve=resolver("127.0.0.2", "::1", "127.0.0.1"))
    assert answer.status == 200


async def test_a_port_without_a_listener_and_an_unknown_name_are_retried() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        assert await fault_of(f"http://127.0.0.1:{port}/") == ("unreachable", False)

    async def unknown(host: str, port: int) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    assert await fault_of("https://hooks.example.com/", resolve=unknown) == ("unresolved", False)


async def test_a_resolver_or_a_receiver_that_hangs_is_left_at_the_deadline() -> None:
    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    assert await fault_of("https://hooks.example.com/", resolve=hang, timeout_s=0.05) == ("timeout", False)
    async with open_receiver(default=Reply(hangs=True)) as receiver:
        assert await fault_of(receiver.url, timeout_s=0.2) == ("timeout", False)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    async with open_receiver() as elsewhere, open_receiver() as receiver:
        receiver.default = Reply(status, headers={"location": elsewhere.url})
        assert (await post(receiver.url)).status == status
    assert elsewhere.calls == []


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_receiver() as proxy, open_receiver() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert (await post(receiver.url)).status == 200
    assert proxy.calls == []


@pytest.mark.parametrize(("header", "seconds"), [("120", 120.0), ("soon", 0.0), ("-1", 0.0), ("", 0.0)])
async def test_how_long_the_receiver_wants_to_be_left_alone_is_read(header: str, seconds: float) -> None:
    async with open_receiver(default=Reply(429, headers={"retry-after": header})) as receiver:
        assert await post(receiver.url) == WebhookResponse(429, seconds)


async def test_a_connection_that_breaks_and_bytes_of_another_protocol_are_no_answer() -> None:
    async with open_receiver(default=Reply(breaks=True)) as receiver:
        assert await fault_of(receiver.url) == ("no_answer", False)

    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-x\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(babble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await fault_of(f"http://127.0.0.1:{port}/") == ("no_answer", False)
    server.close()


async def test_of_a_body_without_end_a_little_is_read_and_the_status_counts() -> None:
    sent = 0
    closed = asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
                sent += 1024
                await writer.drain()
        except ConnectionError:
            closed.set()
        finally:
            writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await post(f"http://127.0.0.1:{port}/")).status == 200
    async with asyncio.timeout(20):
        await closed.wait()
    assert sent >= POLITE_BYTES
    server.close()


async def test_a_body_that_hangs_does_not_take_the_status_back() -> None:
    async with open_receiver() as receiver:
        receiver.default = Reply(200, headers={"content-length": "99"})
        assert (await post(receiver.url)).status == 200


async def test_a_receiver_that_keeps_its_connection_open_after_its_response_has_answered_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.webhooks.post.POLITE_S", 0.6)
    left = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await left.wait()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    answered = await post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", timeout_s=0.5)
    assert answered == WebhookResponse(200, 0.0)
    assert 0 < answered.took_s < 0.5
    left.set()
    server.close()


@pytest.mark.parametrize("interim", [1, INTERIM_HEADS, 10**9])
async def test_a_few_interim_responses_are_passed_over_and_many_are_no_answer(interim: int) -> None:
    sent = 0
    closed = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        try:
            while sent < interim:
                writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n")
                sent += 1
                await writer.drain()
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except ConnectionError:
            closed.set()
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    if interim <= INTERIM_HEADS:
        assert (await post(url)).status == 204
    else:
        assert await fault_of(url) == ("no_answer", False)
        async with asyncio.timeout(20):
            await closed.wait()
        assert sent < 10**6
    server.close()


async def test_a_head_without_end_is_no_answer() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 2**16)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    assert await fault_of(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/") == ("no_answer", False)
    server.close()
