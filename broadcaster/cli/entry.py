"""The ``broadcaster`` command as it is installed: it starts in the base install, and names the extra that it needs.

It imports the standard library and our own errors, until the packages of the command are known to be there.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Final

from broadcaster.cli.arguments import command_in
from broadcaster.errors import SetupError
from broadcaster.extras import EXIT_USAGE, Extra, check_extra
from broadcaster.process.interrupts import let_interrupts_end

EXTRAS: Final[Mapping[str, Extra]] = {
    "demo": "all",
    "up": "all",
    "serve": "server",
    "worker": "worker",
    "dead": "server",
    "key": "server",
    "doctor": "server",
}
"""Command → its extra; `cli` for every other one."""


def main() -> None:
    """Run the command of this process's arguments; ends the process with an ``ExitCode``."""
    let_interrupts_end()
    try:
        check_extra(EXTRAS.get(command_in(sys.argv[1:]), "cli"))
    except SetupError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    import_module("broadcaster.cli.main").main()
