"""The extras of the package, and the modules of ours that need one: ``pip install 'llm-broadcaster[server]'``.

The base install publishes, reads, starts and calls. Modules that need more are imported by ``import_for``: a missing
package is then an error with the command that installs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Final, Literal

from broadcaster.errors import SetupError

Extra = Literal["server", "worker", "cli", "all", "testing"]

DISTRIBUTION: Final = "llm-broadcaster"
# Of a process that ends because a package is missing, as for every wrong set-up.
EXIT_USAGE: Final = 2
_CLI: Final = ("typer", "rich")
_SERVER: Final = (
    *(*_CLI, "fastapi", "h11", "uvicorn", "uvloop", "httptools", "websockets"),
    *("prometheus_client", "jwt", "cryptography"),
)
_WORKER: Final = (*_CLI, "anthropic", "openai", "aiohttp", "uvloop", "prometheus_client")
PACKAGES: Final[Mapping[Extra, tuple[str, ...]]] = {
    "cli": _CLI,
    "server": _SERVER,
    "worker": _WORKER,
    "all": tuple(dict.fromkeys((*_SERVER, *_WORKER))),
    "testing": tuple(dict.fromkeys((*_SERVER, *_WORKER, "pytest"))),
}
"""Extra → the packages that its modules import; pyproject.toml has their versions."""

_OURS: Final = frozenset({"broadcaster", "worker"})


def import_for(extra: Extra, module: str) -> ModuleType:
    """A module of ours that needs the packages of an extra. Raises SetupError with the package and the command."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in _OURS:
            raise
        raise _missing([package], extra) from error


def check_extra(extra: Extra) -> None:
    """Raises SetupError, which names the packages of an extra that are not installed, and the command. Imports none."""
    if missing := [package for package in PACKAGES[extra] if find_spec(package) is None]:
        raise _missing(missing, extra)


def _missing(packages: list[str], extra: Extra) -> SetupError:
    named = f"the package {packages[0]} is" if len(packages) == 1 else f"the packages {', '.join(packages)} are"
    return SetupError(f"{named} not installed: pip install '{DISTRIBUTION}[{extra}]'")
