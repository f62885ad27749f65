"""The arguments of a process, read before it is known whether the packages that parse them are there."""

from __future__ import annotations

from collections.abc import Sequence


def command_in(arguments: Sequence[str]) -> str:
    """The command that these arguments name: the first one that is not an option; or an empty text."""
    return next((each for each in arguments if not each.startswith("-")), "")
