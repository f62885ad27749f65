"""How each client learns that an answer did not come to its end, in its dialect."""

from __future__ import annotations

from tests.compat.clients import Client
from tests.compat.readings import Shown


def shows_an_error(client: Client, shown: Shown) -> bool:
    """Native clients are shown the entry itself."""
    return shown.error is not None or (client.dialect == "native" and shown.final[-1]["event"]["type"] == "error")


def shows_a_stop(client: Client, shown: Shown) -> bool:
    """In the dialect's own format: wire contracts, 3.7."""
    final = shown.final
    match client.dialect:
        case "openai-chat":
            return bool(final["choices"][0]["finish_reason"] == "stop")
        case "openai-responses":
            return bool(final["status"] == "cancelled")
        case "anthropic":
            return bool(final["stop_reason"] == "cancelled")
        case "ai-sdk":
            return shown.error is None and shown.seen[-1] == "abort"
        case "ag-ui":
            return bool(final[-1]["is"]["type"] == "cancelled")
        case _:
            return bool(final[-1]["event"]["type"] == "abort")
