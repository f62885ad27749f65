"""The ``broadcaster`` command as it is installed: it starts in the base install, and names the extra that it needs.

It imports the standard library and our own errors, until the packages of the command are known to be there.
"""

from __future__ import annotations

import sys

from broadcaster.process.interrupt_end import let_interrupts_end

TYPE_CHECKING = False  # `typing` takes longer to import than all of this module
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from broadcaster.extras import Extra

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
    _run()


def _run() -> None:
    from importlib import import_module  # noqa: PLC0415 - interrupts end it quietly

    from broadcaster.cli.arguments import command_in  # noqa: PLC0415 - interrupts end it quietly
    from broadcaster.errors import SetupError  # noqa: PLC0415 - interrupts end it quietly
    from broadcaster.extras import EXIT_USAGE, check_extra  # noqa: PLC0415 - interrupts end it quietly

    try:
        check_extra(EXTRAS.get(command_in(sys.argv[1:]), "cli"))
    except SetupError as error:
        print(f"error: {error.detail}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    if sys.argv[1:] == ["worker"]:  # another program takes this process over: it needs no parser of options
        import_module("broadcaster.cli.worker").worker()
    import_module("broadcaster.cli.main").main()
