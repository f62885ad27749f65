"""Which servers are the operator's own, and so receive the trace of a call."""

from __future__ import annotations

import pytest

from worker.providers.transport import is_own_host


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "::1", "[::1]", "10.0.0.7", "192.168.1.2", "172.16.0.1", "fd00::1", "localhost", "vllm"),
        *("llm.default.svc", "llm.default.svc.cluster.local", "gpu.internal", "box.home.arpa", "GPU.Internal."),
    ],
)
def test_a_server_of_a_private_network_is_the_operators_own(host: str) -> None:
    assert is_own_host(host)


@pytest.mark.parametrize(
    "host",
    [
        *("api.openai.com", "api.anthropic.com", "openrouter.ai", "8.8.8.8", "2606:4700::1111", "", "mysvc.io"),
        *("notinternal.com", "x.azure.com", "localhost.example.com", "internal.example.com"),
    ],
)
def test_a_public_server_is_not(host: str) -> None:
    assert not is_own_host(host)
