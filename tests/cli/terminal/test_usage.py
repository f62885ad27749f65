"""A wrong command line, for every command there is: one line with the option, the value, what is expected, and help."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
import typer
from typer.testing import CliRunner

from broadcaster.cli.main import MODULES, PROGRAM, create_app, create_app_for
from broadcaster.cli.option_settings import with_options
from broadcaster.cli.streams.publish import LONGEST_LEASE_S
from broadcaster.cli.terminal.exit_codes import CommandFailed
from broadcaster.cli.token import LONGEST_TTL_S
from broadcaster.log.feeds.feeds import MAX_LEASE_S
from broadcaster.settings.tokens import TokenSettings

WRONG: Final = "hot"
EXPECTED: Final = ("expected ", "did you mean ")


def walked(group: Any, path: Sequence[str] = ()) -> Iterator[tuple[Sequence[str], Any]]:
    """Every command and group below this group, with the names that lead to it."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from walked(command, (*path, name))


COMMANDS: Final = dict(walked(typer.main.get_group(create_app(MODULES))))
GROUPS: Final = [path for path, command in COMMANDS.items() if hasattr(command, "commands")]
RUN: Final = [path for path in COMMANDS if path not in GROUPS]


def parameters(path: Sequence[str], kind: str) -> list[Any]:
    return [each for each in COMMANDS[tuple(path)].params if each.param_type_name == kind]


OPTIONS: Final = [(path, option) for path in RUN for option in parameters(path, "option")]
NAMES: Final = [f"{' '.join(path)} {option.opts[0]}" for path, option in OPTIONS]


def refusal(*arguments: str) -> str:
    """The one line with which these arguments are refused, before anything is done."""
    result = CliRunner().invoke(create_app_for(arguments), list(arguments), prog_name=PROGRAM)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert result.stderr.startswith("error: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


def help_of(path: Sequence[str]) -> str:
    return f"see {PROGRAM} {' '.join(path)} --help\n"


def given(path: Sequence[str]) -> list[str]:
    """The command with every argument that it needs."""
    return [*path, *("x" for each in parameters(path, "argument") if each.required)]


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_an_unknown_option_is_named_with_the_options_that_there_are(path: Sequence[str]) -> None:
    printed = refusal(*given(path), "--zzz", "1")
    assert f"{PROGRAM} {' '.join(path)} has no option --zzz; it has " in printed
    for option in parameters(path, "option"):
        assert option.opts[0] in printed
    assert printed.endswith(help_of(path))


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=NAMES)
def test_a_mistyped_option_is_named_with_the_one_that_is_meant(path: Sequence[str], option: Any) -> None:
    name = option.opts[0]
    printed = refusal(*given(path), f"{name}{name[-1]}")
    assert f"has no option {name}{name[-1]}; did you mean {name}" in printed
    assert printed.lower().endswith(help_of(path))


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=NAMES)
def test_an_option_without_its_value_or_with_one_it_does_not_take_is_named(path: Sequence[str], option: Any) -> None:
    name = option.opts[0]
    if option.is_flag:
        assert f"error: {name} takes no value; give {name} alone; see " in refusal(*given(path), f"{name}=1")
    else:
        assert f"error: {name} needs a value" in refusal(*given(path), name)


@pytest.mark.parametrize(("path", "option"), OPTIONS, ids=NAMES)
def test_a_value_that_an_option_cannot_have_is_named_with_what_is_expected(path: Sequence[str], option: Any) -> None:
    annotation = str(option.type_descriptor.annotation)
    if option.is_flag or not (option.type_descriptor.is_choice or "int" in annotation or "float" in annotation):
        return  # any text
    name = option.opts[0]
    printed = refusal(*given(path), name, WRONG)
    assert printed.startswith(f"error: {name} {WRONG}: ")
    assert any(each in printed for each in EXPECTED), printed
    assert printed.lower().endswith(help_of(path))
    for bound, beyond in ((option.min, -1), (option.max, 1)):
        if bound is not None:
            beyond_it = str(bound + beyond)
            printed = refusal(*given(path), name, beyond_it)
            assert printed.startswith(f"error: {name} {beyond_it}: expected a ")
            assert f" {bound}" in printed


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_a_missing_argument_is_named_with_its_meaning(path: Sequence[str]) -> None:
    for argument in parameters(path, "argument"):
        if argument.required:
            printed = refusal(*path)
            assert f"{PROGRAM} {' '.join(path)} needs {argument.metavar} ({argument.help}); see " in printed


@pytest.mark.parametrize("path", RUN, ids=" ".join)
def test_an_argument_too_many_is_named_with_those_that_are_taken(path: Sequence[str]) -> None:
    arguments = parameters(path, "argument")
    if any(each.nargs == -1 for each in arguments):
        return
    printed = refusal(*path, *["x"] * len(arguments), "1 2")
    assert f"{PROGRAM} {' '.join(path)} takes " in printed
    assert " and got 1 2" in printed
    assert printed.endswith(help_of(path))


@pytest.mark.parametrize("path", [(), *GROUPS], ids=lambda path: " ".join(path) or PROGRAM)
def test_an_unknown_command_is_named_with_those_that_there_are_and_a_mistyped_one_with_the_one_that_is_meant(
    path: Sequence[str],
) -> None:
    names = [name for (*before, name) in COMMANDS if tuple(before) == path]
    if path == ("token",):  # what is no command of it is a stream
        assert "did you mean revoke?" in refusal("token", "revok", "x")
        return
    printed = refusal(*path, "zzz")
    assert " has no command zzz; it has " in printed
    assert all(name in printed for name in names)
    for name in names:
        if len(name) > 2:
            assert f" has no command {name}{name[-1]}; did you mean {name}" in refusal(*path, f"{name}{name[-1]}")


def test_an_option_before_its_command_is_refused_with_its_place() -> None:
    assert "an option of a command comes after its name" in refusal("--url", "http://127.0.0.1:1", "ls")


def test_a_value_of_several_that_are_possible_is_refused_with_all_of_them() -> None:
    printed = refusal("ls", "--status", "nope")
    assert "--status nope: expected one of queued, running, finished, failed, aborted; see" in printed


def test_a_text_in_several_arguments_needs_quotes() -> None:
    printed = refusal("generate", "Why", "is", "the", "sea", "salty?")
    assert "takes PROMPT, and got is the sea salty? too; put a text with spaces in quotes" in printed


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_number_that_is_none_is_refused_where_a_time_is_expected(value: str) -> None:
    assert f"--every {value}: expected a number from 0.2 to 3600" in refusal("top", "--every", value)
    assert f"--ttl {value}: expected a number from 1 to {LONGEST_TTL_S}" in refusal("token", "x", "--ttl", value)
    printed = refusal("publish", "x", "--create", "--lease", value)
    assert f"--lease {value}: expected a number of at most 3600" in printed


def test_the_bounds_of_times_are_those_of_front_ends() -> None:
    assert LONGEST_LEASE_S == MAX_LEASE_S
    (longest,) = (each.le for each in TokenSettings.model_fields["token_max_s"].metadata if hasattr(each, "le"))
    assert longest == LONGEST_TTL_S


def test_an_option_that_no_setting_can_have_is_named_with_its_value_and_without_its_secrets() -> None:
    for options, text in (
        ({"port": 99_999}, "--port 99999: expected a number from 0 to 65535"),
        ({"port": -1}, "--port -1: expected a number from 0 to 65535"),
        ({"data_dir": ""}, "--data-dir '': "),
        ({"redis_url": "redis://me:s3cret@host:99999"}, "--redis-url 'redis://***@host:99999': "),
        ({"host": "0.0.0.0"}, "--host 0.0.0.0: without keys only a loopback HOST may be used"),
    ):
        with pytest.raises(CommandFailed) as refused:
            with_options(**options)
        assert str(refused.value).startswith(text)
        assert "s3cret" not in str(refused.value)
