"""``python -m broadcaster.testing``: paced text for any model on every wire, for demonstrations and load."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence

from broadcaster.testing.script import PacedText, Script
from broadcaster.testing.server import ScriptedProvider


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; stdout has the address, and the variables that lead a worker there."""
    parser = argparse.ArgumentParser(prog="python -m broadcaster.testing", description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 picks a free one")
    parser.add_argument("--rate", type=_positive, default=50.0, help="events per second of one answer")
    parser.add_argument("--tokens", type=int, default=200, help="words of one answer")
    parser.add_argument("--api-key", help="the only key that is good; without it, any is")
    chosen = parser.parse_args(arguments)
    script = Script(PacedText(tokens=chosen.tokens, rate=chosen.rate))
    provider = ScriptedProvider(default=script, host=chosen.host, port=chosen.port, api_key=chosen.api_key)
    asyncio.run(_serve(provider))


async def _serve(provider: ScriptedProvider) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with provider:
        sys.stdout.write(f"listening on {provider.base_url}\n")
        sys.stdout.write(f"OPENAI_BASE_URL={provider.openai_base_url}\nANTHROPIC_BASE_URL={provider.base_url}\n")
        sys.stdout.flush()
        await stopped.wait()


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


if __name__ == "__main__":
    main()
