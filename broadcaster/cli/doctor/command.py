"""``broadcaster doctor``: checks the set-up. Each check is ok, warn or fail, with a remedy.

All groups run at once, each with a deadline; the order of the report is fixed. No check writes anything.
"""

from __future__ import annotations

import asyncio
import os
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError
from pydantic_settings import SettingsError
from rich.table import Column
from rich.text import Text

from broadcaster.cli.doctor import machine, network, redis
from broadcaster.cli.doctor.table import Finding, Grade, judge_all
from broadcaster.cli.front_end_client import Json, Url
from broadcaster.cli.option_settings import with_options
from broadcaster.cli.redis_access import DataDir, RedisUrl, find_redis
from broadcaster.cli.running_up import front_end_url
from broadcaster.cli.terminal.exit_codes import ExitCode
from broadcaster.cli.terminal.formats import as_json
from broadcaster.cli.terminal.screen import Screen, harmless
from broadcaster.core.access.masking import masked
from broadcaster.errors import LogUnavailable, SetupError
from broadcaster.log.inspection.redis_facts import inspect
from broadcaster.log.redis.connect import LogConnection
from broadcaster.observability.logs import get_logger
from broadcaster.settings import Settings, describe_error

GROUP_S: Final = 15.0

_log = get_logger(__name__)

_STYLES: Final = {
    Grade.OK: "green",
    Grade.WARN: "yellow",
    Grade.FAIL: "bold red",
    Grade.SKIP: "dim",
}

Group = Callable[[], Awaitable[list[Finding]]]


def doctor(
    settings: Annotated[bool, typer.Option("--settings", help="only list every setting with its value")] = False,
    json: Json = False,
    redis_url: RedisUrl = None,
    url: Url = None,
    data_dir: DataDir = None,
) -> None:
    """Check settings, this machine, Redis, the front-end and the providers, and print a remedy for each problem.

    Exits with 1 if a check fails; warnings do not count.
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
        detail = describe_error(error)
        remedy = "correct these variables; the other checks need them"
        report = {"machine": [Finding("settings", Grade.FAIL, detail, remedy)]}
    else:
        report = asyncio.run(examine(screen, _groups(examined, named=named, environment=os.environ)))
    _print(screen, report, as_json_=json)
    if any(finding.grade is Grade.FAIL for findings in report.values() for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


# ------------------------------------------------------------------------------------------------------------- groups


def _groups(settings: Settings, *, named: Sequence[str] | set[str], environment: Mapping[str, str]) -> dict[str, Group]:
    """The groups of checks, in the report's order."""

    async def check_machine() -> list[Finding]:
        seen = await asyncio.to_thread(
            machine.inspect, settings, named=named, environment=environment, has_redis=settings.redis_url is not None
        )
        return judge_all(machine.CHECKS, seen)

    async def probe_front_end() -> list[Finding]:
        is_named = "url" in named
        url = front_end_url(settings, is_named=is_named)
        seen = await network.probe_front_end(url, api_key=settings.api_key, is_named=is_named)
        return judge_all(network.FRONT_END_CHECKS, seen)

    async def check_providers() -> list[Finding]:
        targets = network.targets(settings, is_routing_set="routes" in named, environment=environment)
        replies = await asyncio.gather(*(network.probe_provider(target) for target in targets))
        return [network.provider_check(reply.target).judge(reply) for reply in replies]

    return {
        "machine": check_machine,
        "redis": partial(_check_redis, settings),
        "front-end": probe_front_end,
        "providers": check_providers,
    }


async def _check_redis(settings: Settings) -> list[Finding]:
    try:
        url = find_redis(settings)
    except SetupError as error:
        if settings.redis_url is not None:
            return [Finding("connection", Grade.FAIL, error.detail, "correct BROADCASTER_REDIS_URL")]
        remedy = "set BROADCASTER_REDIS_URL; or start `broadcaster up`, which brings its own, and give its --data-dir"
        detail = f"no Redis is named, and no `up` runs over {settings.data_dir}"
        return [Finding("connection", Grade.WARN, detail, remedy)]
    address = masked(url)
    try:
        async with LogConnection(url, prefix=settings.key_prefix, timeout_s=settings.redis_timeout_s) as opened:
            facts = await inspect(opened)
    except LogUnavailable as error:
        detail = f"{address} does not answer ({error.__cause__ or error.detail})"
        return [Finding("connection", Grade.FAIL, detail, "start it, or correct BROADCASTER_REDIS_URL")]
    except SetupError as error:
        return [Finding("connection", Grade.FAIL, f"{address}: {error.detail}", "correct BROADCASTER_REDIS_URL")]
    seen = redis.Seen(
        facts=facts,
        url=address,
        prefix=settings.key_prefix,
        concurrency=settings.concurrency,
        max_queue=settings.max_queue,
        needs_keys=settings.auth == "keys" and settings.api_keys is None and settings.api_keys_file is None,
    )
    return judge_all(redis.CHECKS, seen)


async def examine(
    screen: Screen, groups: Mapping[str, Group], *, deadline_s: float = GROUP_S
) -> dict[str, list[Finding]]:
    """Run all groups at once, each with the deadline; a terminal shows which are still running."""
    awaited = dict.fromkeys(groups)
    screen.wait(_waiting_text(awaited))

    async def examine_one(name: str, group: Group) -> list[Finding]:
        try:
            async with asyncio.timeout(deadline_s):
                return await group()
        except TimeoutError:
            detail = f"the checks did not end within {deadline_s:g} s"
            return [Finding("deadline", Grade.FAIL, detail, "check the network between")]
        except Exception as error:  # the other groups are reported
            at = traceback.extract_tb(error.__traceback__)[-1]
            # Without its text, which could quote a key.
            _log.error("check_failed", group=name, error=type(error).__name__, file=at.filename, line=at.lineno)
            return [Finding("error", Grade.FAIL, f"the checks ended with {type(error).__name__}", "see the log")]
        finally:
            del awaited[name]
            if awaited:
                screen.wait(_waiting_text(awaited))

    try:
        async with asyncio.TaskGroup() as tasks:
            running = {name: tasks.create_task(examine_one(name, group)) for name, group in groups.items()}
    finally:
        screen.waited()
    return {name: task.result() for name, task in running.items()}


def _waiting_text(awaited: Mapping[str, None]) -> str:
    return f"checking {', '.join(awaited)}"


# ------------------------------------------------------------------------------------------------------------- report


def _print(screen: Screen, report: Mapping[str, Sequence[Finding]], *, as_json_: bool) -> None:
    found = [(group, finding) for group, findings in report.items() for finding in findings]
    counts = Counter(finding.grade for _, finding in found)
    if as_json_:
        screen.line(as_json({"ok": not counts[Grade.FAIL], "checks": [_document(*each) for each in found]}))
        return
    rows = (_row(*each) for each in found)
    screen.table(rows, Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold"), has_header=False)
    screen.note(", ".join(f"{counts[grade]} {grade}" for grade in Grade if counts[grade]))


def _row(group: str, finding: Finding) -> Sequence[str | Text]:
    style = _STYLES[finding.grade]
    detail = Text(harmless(finding.detail), style=style if finding.grade is Grade.SKIP else "")
    if finding.remedy:
        detail.append(f"\n→ {harmless(finding.remedy)}", style=style)
    return Text(finding.grade, style=style), f"{group}: {finding.check}", detail


def _document(group: str, finding: Finding) -> dict[str, Any]:
    return {
        "group": group,
        "check": finding.check,
        "verdict": finding.grade,
        "said": finding.detail,
        "remedy": finding.remedy or None,
    }


def _list_settings(screen: Screen, settings: Settings, *, named: set[str], as_json_: bool) -> None:
    rows: list[dict[str, Any]] = [
        {
            "variable": machine.variable(name),
            "value": machine.masked_value(name, value),
            "is_default": name not in named,
            "description": Settings.model_fields[name].description,
        }
        for name, value in settings.model_dump().items()
    ]
    if as_json_:
        screen.line(as_json(rows))
        return
    cells = (_setting_cells(**row) for row in rows)
    screen.table(cells, Column("VARIABLE", no_wrap=True), Column("VALUE", overflow="fold"), "FROM", "MEANING")


def _setting_cells(*, variable: str, value: Any, is_default: bool, description: str) -> Sequence[Text]:
    text = "–" if value is None else value if isinstance(value, str) else as_json(value)
    source, style = ("default", "") if is_default else ("set", "bold")
    return [Text(harmless(cell), style=style) for cell in (variable, text, source, description)]
