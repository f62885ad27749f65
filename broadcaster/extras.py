"""The extras of the package, and the modules of ours that need one: ``pip install 'llm-broadcaster[server]'``.

The base install publishes, reads, starts and calls. Modules that need more are imported by ``import_for``: a missing
package is then an error with the command that installs it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Final, Literal

from broadcaster.errors import SetupError

Extra = Literal["server", "worker", "cli", "all"]

DISTRIBUTION: Final = "llm-broadcaster"
_OURS: Final = frozenset({"broadcaster", "worker"})


def import_for(extra: Extra, module: str) -> ModuleType:
    """A module of ours that needs the packages of an extra. Raises SetupError with the package and the command."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in _OURS:
            raise
        raise SetupError(f"the package {package} is not installed: {install_command(extra)}") from error


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"
