"""The settings of a command: those of the environment, and in front of them what its options give."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import ValidationError

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode
from broadcaster.cli.terminal.usage import expected, quoted
from broadcaster.core.access.masking import masked
from broadcaster.observability.logs import get_logger
from broadcaster.observability.telemetry import set_up_logging
from broadcaster.settings import PREFIX, Settings, describe_error, unknown_variables

_log = get_logger(__name__)
_VARIABLE: Final = re.compile(rf"\b{PREFIX}[A-Z_]*[A-Z]\b")


def with_options(**options: object) -> Settings:
    """The settings of the environment, with what was given on the command line in front.

    Raises CommandFailed for an option that its setting cannot have, or that contradicts another setting;
    ValidationError when the environment is wrong without it.
    """
    given = {name: value for name, value in options.items() if value is not None}
    environment = Settings().model_dump()
    try:
        return Settings.model_validate({**environment, **given})
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            name = str(fault["loc"][0]) if fault["loc"] else ""
            if name in given:
                text = f"{_option(name, given[name])}: {_expected(name, fault)}"
                raise CommandFailed(text, ExitCode.USAGE) from error
        shown = {f"{PREFIX}{name.upper()}": _option(name, value) for name, value in given.items()}
        text = _VARIABLE.sub(lambda found: shown.get(found[0], found[0]), describe_error(error))
        raise CommandFailed(text, ExitCode.USAGE) from error


def variables_of(settings: Settings) -> dict[str, str]:
    """The variables by which a child process has these settings: one for each that differs from the environment's.

    These are options of the command, and what the command itself sets: texts and numbers.
    """
    found = Settings()
    changed = {name: value for name, value in settings if value != getattr(found, name)}
    return {f"{PREFIX}{name.upper()}": str(value) for name, value in changed.items()}


def _expected(name: str, fault: Mapping[str, Any]) -> str:
    """With both bounds of the setting: a fault has the one that was crossed."""
    bounds = Settings.model_fields[name].metadata
    least = next((each.ge for each in bounds if hasattr(each, "ge")), None)
    most = next((each.le for each in bounds if hasattr(each, "le")), None)
    return expected(fault, least=least, most=most)


def _option(name: str, value: object) -> str:
    """As it was given, without its secrets."""
    return f"--{name.replace('_', '-')} {quoted(masked(str(value)))}"


def start_logging(settings: Settings) -> None:
    """Set up logging, and first log the variables that look like settings but are not."""
    set_up_logging(settings.log_level, format=settings.log_format)
    for name, nearest in unknown_variables(os.environ):
        _log.warning("unknown_setting", variable=name, nearest=nearest)
