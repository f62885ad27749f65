"""What a wrong command line prints: the option or argument, its value, what is expected, and where the help is.

typer has the error's parts (the parameter, pydantic's fault) and prints most of them in a sentence of its own, without
the value. The classes of these errors are private to it, so they are recognized by name; one with another name keeps
typer's own text.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import typer

from broadcaster.cli.terminal.exit_codes import CommandFailed, ExitCode

_SHOWN_CHARS: Final = 200
_UNKNOWN_COMMAND: Final = re.compile(r"No such command (?P<name>'.*?'|\".*?\")\.", re.DOTALL)
_EXTRA: Final = re.compile(r"Got unexpected extra argument\(s\) \((?P<values>.*)\)", re.DOTALL)
_NUMBERS: Final = {"int": "a whole number", "float": "a number", "finite": "a finite number"}


def usage_failure(error: typer.TyperException, root: Any, arguments: Sequence[str]) -> CommandFailed | None:
    """The text of this error of the command line ``arguments`` of ``root``, a context; None: typer prints it."""
    describe = _DESCRIBERS.get(type(error).__name__)
    if describe is None:
        return None
    context: Any = getattr(error, "ctx", None)
    path, command = (context.command_path, context.command) if context else _named(root, arguments)
    text = describe(error, path, command)
    return CommandFailed(f"{text}{' See' if text.endswith('?') else '; see'} {path} --help", ExitCode.USAGE)


def expected(fault: Mapping[str, Any], *, least: float | None = None, most: float | None = None) -> str:
    """What pydantic expected where it found this fault; a bound that is not given is the fault's own."""
    limits = fault.get("ctx", {})
    least, most = (limits.get("ge") if least is None else least), (limits.get("le") if most is None else most)
    kind = str(fault["type"])
    if kind in ("greater_than_equal", "less_than_equal"):
        return f"expected a number{_between(least, most)}"
    number = _NUMBERS.get(kind.partition("_")[0])
    if number is not None:
        return f"expected {number}{_between(least, most)}"
    return str(fault["msg"]).removeprefix("Value error, ")


def quoted(value: object) -> str:
    """The value as a shell takes it; a long one is cut."""
    text = str(value)
    return shlex.quote(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")


def _between(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {_number(least)} to {_number(most)}"
    if least is not None:
        return f" of at least {_number(least)}"
    return "" if most is None else f" of at most {_number(most)}"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)


def _value(error: Any, path: str, command: Any) -> str:
    faults = getattr(error.__cause__, "errors", None)
    if faults is None or error.param is None:
        return str(error.format_message())
    fault = faults(include_url=False)[0]
    choices = getattr(getattr(error.param, "type_descriptor", None), "choices", None)
    if choices:
        names = [str(getattr(choice, "value", choice)) for choice in choices]
        remedy = _one_of(str(fault["input"]), names, otherwise=f"expected one of {', '.join(names)}")
    else:
        bounds = {"least": getattr(error.param, "min", None), "most": getattr(error.param, "max", None)}
        remedy = expected(fault, **bounds)
    return f"{_label(error.param)} {quoted(fault['input'])}: {remedy}"


def _missing(error: Any, path: str, command: Any) -> str:
    return f"{path} needs {_label(error.param)}{_meaning(error.param)}"


def _unknown_option(error: Any, path: str, command: Any) -> str:
    names = list(_options(command))
    place = "" if error.ctx is None or error.ctx.parent else "; an option of a command comes after its name"
    remedy = _one_of(error.option_name, names, otherwise=f"it has {', '.join(names)}{place}")
    return f"{path} has no option {quoted(error.option_name)}; {remedy}"


def _wrong_option(error: Any, path: str, command: Any) -> str:
    option = next((each for each in _parameters(command) if error.option_name in each.opts), None)
    if option is None:
        return str(error.format_message())
    if option.is_flag:
        return f"{error.option_name} takes no value; give {error.option_name} alone"
    return f"{error.option_name} needs a value{_meaning(option)}"


def _other(error: Any, path: str, command: Any) -> str:
    """An unknown command, an argument too many, and what else has no class of its own."""
    commands = list(getattr(command, "commands", ()))
    if found := _UNKNOWN_COMMAND.match(error.message):
        name = found["name"][1:-1]
        remedy = _one_of(name, commands, otherwise=f"it has {', '.join(commands)}")
        return f"{path} has no command {quoted(name)}; {remedy}"
    if found := _EXTRA.match(error.message):
        taken = " ".join(_label(each) for each in command.params if each.param_type_name == "argument")
        if not taken:
            return f"{path} takes no argument, and got {found['values']}"
        return f"{path} takes {taken}, and got {found['values']} too; {_remedy_of_extra(error.ctx)}"
    if commands:
        return f"{path} needs a command: {', '.join(commands)}"
    return str(error.format_message())


_DESCRIBERS: Final[Mapping[str, Callable[[Any, str, Any], str]]] = {
    "BadParameter": _value,
    "MissingParameter": _missing,
    "NoSuchOption": _unknown_option,
    "BadOptionUsage": _wrong_option,
    "UsageError": _other,
}
"""An error's class → what is printed: from the error, the command's path, and the command."""


def _one_of(given: str, names: Sequence[str], *, otherwise: str) -> str:
    near = get_close_matches(given.lower(), names, n=2)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def _remedy_of_extra(context: Any) -> str:
    """A group may take what is no command's name for the argument of its usual command."""
    beside = [name for name in getattr(context.parent.command, "commands", ()) if name != context.info_name]
    values = [value for value in context.params.values() if isinstance(value, str)]
    return _one_of(" ".join(values), beside, otherwise="put a text with spaces in quotes")


def _named(root: Any, arguments: Sequence[str]) -> tuple[str, Any]:
    """The command that the arguments name, for an error that has no context of its own, and its path."""
    path, command = [root.command_path], root.command
    for name in arguments:
        if name.startswith("-"):
            continue
        inner = getattr(command, "commands", {}).get(name)
        if inner is None:
            break
        path, command = [*path, name], inner
    return " ".join(path), command


def _parameters(command: Any) -> Iterator[Any]:
    """Those of the command, and of the commands in it: a group may have one that is not named."""
    yield from command.params
    for inner in getattr(command, "commands", {}).values():
        yield from _parameters(inner)


def _options(command: Any) -> Iterator[str]:
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.hidden:
            yield from parameter.opts
    yield "--help"


def _label(parameter: Any) -> str:
    if parameter.param_type_name == "option":
        return str(parameter.opts[0])
    return str(parameter.metavar or parameter.name.upper()).strip("[]")


def _meaning(parameter: Any) -> str:
    return f" ({parameter.help})" if parameter.help else ""
