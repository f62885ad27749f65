"""Programs whose source or ``on_end`` exits: the thread of the loop, which all blocking callers share, continues."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Final

import pytest

from tests.support.log.held_log import held

# Start of an interpreter that imports a front-end's parts, on a busy machine.
PROGRAM_S: Final = 30.0

PUBLISHES: Final = """
    import sys
    from broadcaster import sync

    def exits():
        yield "one"
        sys.exit("no key")

    async def exits_on_the_loop():
        yield "one"
        sys.exit("no key")

    def on_end(_):
        sys.exit("no room")

    async def on_end_on_the_loop(_):
        sys.exit("no room")

    url, stream_id, name = sys.argv[1:]
    what = globals()[name]
    source, on_end = (["one"], what) if name.startswith("on_end") else (what(), None)
    broadcaster = sync.BlockingBroadcaster.from_url(url)
    try:
        broadcaster.publish(source, id=stream_id, on_end=on_end)
    except SystemExit as error:
        print(error)
    with sync.Publisher.from_url(url, timeout_s=5) as publisher, publisher.feed(f"{stream_id}-next") as feed:
        feed.text("hello")
    sys.exit(5)
"""


def run(url: str, stream_id: str, name: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(PUBLISHES), url, stream_id, name]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=PROGRAM_S)


@pytest.mark.parametrize("name", ["exits", "exits_on_the_loop"])
def test_a_source_that_exits_aborts_its_stream_and_raises_system_exit_in_its_caller_alone(
    redis_url: str, stream_id: str, name: str
) -> None:
    program = run(redis_url, stream_id, name)
    assert (program.returncode, program.stdout) == (5, "no key\n"), program.stderr
    assert held(redis_url, stream_id)[-1] == {"type": "abort", "reason": "cancelled"}
    assert held(redis_url, f"{stream_id}-next")[-1] == {"type": "finish"}


@pytest.mark.parametrize("name", ["on_end", "on_end_on_the_loop"])
def test_an_on_end_that_exits_is_logged_and_changes_nothing(redis_url: str, stream_id: str, name: str) -> None:
    program = run(redis_url, stream_id, name)
    assert (program.returncode, program.stdout) == (5, "")
    assert "on_end_failed" in program.stderr
    assert held(redis_url, stream_id)[-1] == {"type": "finish"}
    assert held(redis_url, f"{stream_id}-next")[-1] == {"type": "finish"}
