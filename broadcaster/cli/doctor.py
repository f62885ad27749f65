"""``broadcaster doctor``: is everything here set up so that it can work? Each check ok, warn or fail, with a remedy.

All groups are asked at once, each with a deadline; the report is in one order. Nothing is written anywhere.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.table import Table
from rich.text import Text

from broadcaster.cli import doctor_machine as machine
from broadcaster.cli import doctor_network as network
from broadcaster.cli import doctor_redis as redis
from broadcaster.cli.doctor_table import Finding, Verdict, judge_all
from broadcaster.cli.failures import ExitCode
from broadcaster.cli.redis_side import DataDir, RedisUrl, find_redis
from broadcaster.cli.screen import Screen, harmless
from broadcaster.cli.serve import with_options
from broadcaster.cli.visit import Json, Url
from broadcaster.cli.words import as_json, masked
from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.connect import LogConnection
from broadcaster.log.inspection import inspect
from broadcaster.settings import Settings
from broadcaster.settings import told as told_settings

GROUP_S: Final = 15.0

_STYLES: Final = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.FAIL: "bold red", Verdict.SKIP: "dim"}

Group = Callable[[], Awaitable[list[Finding]]]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    settings: Annotated[bool, typer.Option("--settings", help="only list every setting with its value")] = False,
    json: Json = False,
    redis_url: RedisUrl = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Check settings, this machine, Redis, the front-end and the providers, and say how to mend what is wrong.

    Ends with 1 when a check fails; warnings do not count.
    """
    screen = Screen()
    given = {name: value for name, value in (("redis_url", redis_url), ("url", url), ("data_dir", data_dir)) if value}
    if settings:
        _list_settings(screen, with_options(**given), named=Settings().model_fields_set | given.keys(), as_json_=json)
        return
    try:
        examined = with_options(**given)
        named = Settings().model_fields_set | given.keys()
    except (ValidationError, SettingsError) as error:
        said = told_settings(error)
        report = {"machine": [Finding("settings", Verdict.FAIL, said, "change these variables; the rest waits for it")]}
    else:
        report = asyncio.run(examine(screen, _groups(examined, named=named, environment=os.environ)))
    _print(screen, report, as_json_=json)
    if any(finding.verdict is Verdict.FAIL for findings in report.values() for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


# ------------------------------------------------------------------------------------------------------------- groups


def _groups(settings: Settings, *, named: Sequence[str] | set[str], environment: Mapping[str, str]) -> dict[str, Group]:
    """What is examined, in the report's order."""

    async def look_at_machine() -> list[Finding]:
        seen = await asyncio.to_thread(
            machine.look, settings, named=named, environment=environment, has_redis=settings.redis_url is not None
        )
        return judge_all(machine.CHECKS, seen)

    async def look_at_redis() -> list[Finding]:
        return await _look_at_redis(settings)

    async def ask_front_end() -> list[Finding]:
        seen = await network.ask_front_end(settings.url, api_key=settings.api_key, is_named="url" in named)
        return judge_all(network.FRONT_END_CHECKS, seen)

    async def ask_providers() -> list[Finding]:
        targets = network.targets(settings, are_routes_named="routes" in named, environment=environment)
        answers = await asyncio.gather(*(network.ask_provider(target) for target in targets))
        return [network.provider_check(answer.target).judge(answer) for answer in answers]

    return {
        "machine": look_at_machine,
        "redis": look_at_redis,
        "front-end": ask_front_end,
        "providers": ask_providers,
    }


async def _look_at_redis(settings: Settings) -> list[Finding]:
    try:
        url = find_redis(settings)
    except SetupError as error:
        if settings.redis_url is not None:
            return [Finding("connection", Verdict.FAIL, error.detail, "correct BROADCASTER_REDIS_URL")]
        remedy = "set BROADCASTER_REDIS_URL; or start `broadcaster up`, which brings its own, and give its --data-dir"
        return [Finding("connection", Verdict.WARN, f"none is named, none runs over {settings.data_dir}", remedy)]
    shown = masked(url)
    try:
        async with LogConnection.open(url, prefix=settings.key_prefix, timeout_s=settings.redis_timeout_s) as opened:
            facts = await inspect(opened)
    except LogUnavailable as error:
        said = f"{shown} does not answer ({error.__cause__ or error.detail})"
        return [Finding("connection", Verdict.FAIL, said, "start it, or correct BROADCASTER_REDIS_URL")]
    except SetupError as error:
        return [Finding("connection", Verdict.FAIL, f"{shown}: {error.detail}", "correct BROADCASTER_REDIS_URL")]
    seen = redis.Seen(
        facts=facts,
        url=shown,
        prefix=settings.key_prefix,
        concurrency=settings.concurrency,
        max_queue=settings.max_queue,
    )
    return judge_all(redis.CHECKS, seen)


async def examine(
    screen: Screen, groups: Mapping[str, Group], *, deadline_s: float = GROUP_S
) -> dict[str, list[Finding]]:
    """Every group at once, each with the deadline; meanwhile a terminal is told which are still awaited."""
    awaited = dict.fromkeys(groups)
    screen.wait(_told(awaited))

    async def examine_one(name: str, group: Group) -> list[Finding]:
        try:
            async with asyncio.timeout(deadline_s):
                return await group()
        except TimeoutError:
            said = f"no end of the checks within {deadline_s:g} s"
            return [Finding("deadline", Verdict.FAIL, said, "look at what stands between")]
        finally:
            del awaited[name]
            if awaited:
                screen.wait(_told(awaited))

    try:
        async with asyncio.TaskGroup() as tasks:
            running = {name: tasks.create_task(examine_one(name, group)) for name, group in groups.items()}
    finally:
        screen.waited()
    return {name: task.result() for name, task in running.items()}


def _told(awaited: Mapping[str, None]) -> str:
    return f"checking {', '.join(awaited)}"


# ------------------------------------------------------------------------------------------------------------- report


def _print(screen: Screen, report: Mapping[str, Sequence[Finding]], *, as_json_: bool) -> None:
    counts = dict.fromkeys(Verdict, 0)
    for findings in report.values():
        for finding in findings:
            counts[finding.verdict] += 1
    if as_json_:
        screen.line(as_json(_document(report, is_ok=not counts[Verdict.FAIL])))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for group, findings in report.items():
        for finding in findings:
            said = Text(harmless(finding.said), style="dim" if finding.verdict is Verdict.SKIP else "")
            if finding.remedy:
                said.append(f"\n→ {harmless(finding.remedy)}", style=_STYLES[finding.verdict])
            verdict = Text(finding.verdict, style=_STYLES[finding.verdict])
            table.add_row(verdict, Text(f"{group}: {finding.check}"), said)
    screen.table(table)
    screen.note(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))


def _document(report: Mapping[str, Sequence[Finding]], *, is_ok: bool) -> dict[str, Any]:
    checks = [
        {
            "group": group,
            "check": finding.check,
            "verdict": finding.verdict,
            "said": finding.said,
            "remedy": finding.remedy or None,
        }
        for group, findings in report.items()
        for finding in findings
    ]
    return {"ok": is_ok, "checks": checks}


def _list_settings(screen: Screen, settings: Settings, *, named: set[str], as_json_: bool) -> None:
    rows = [
        {
            "variable": machine.variable(name),
            "value": machine.shown_value(name, value),
            "is_default": name not in named,
            "description": Settings.model_fields[name].description,
        }
        for name, value in settings.model_dump().items()
    ]
    if as_json_:
        screen.line(as_json(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("VARIABLE", no_wrap=True)
    table.add_column("VALUE", overflow="fold")
    table.add_column("FROM")
    table.add_column("MEANING")
    for row in rows:
        value = row["value"]
        shown = "–" if value is None else value if isinstance(value, str) else as_json(value)
        style = "" if row["is_default"] else "bold"
        source = "default" if row["is_default"] else "set"
        cells = (str(row["variable"]), harmless(str(shown)), source, str(row["description"]))
        table.add_row(*(Text(cell, style=style) for cell in cells))
    screen.table(table)
