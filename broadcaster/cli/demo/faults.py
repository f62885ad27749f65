"""The channel of faults: the page's buttons → the demo's front-end → the parent of all processes, which causes them."""

from __future__ import annotations

from typing import Final

from broadcaster.cli.processes.parent_channel import FAULT, ChildEnd

FRONT_END_MODULE: Final = "broadcaster.cli.demo.front_end"


class FaultChannel:
    """The front-end's end: it sends the names of faults to its parent."""

    def __init__(self, channel: ChildEnd) -> None:
        self._channel = channel

    def cause(self, fault: str, concerned: str = "") -> None:
        """See DemoPort."""
        self._channel.send(f"{FAULT} {fault} {concerned}".rstrip())
