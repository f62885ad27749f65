"""Tables of checks, pure: facts in, findings out.

A check describes the facts in one line. The first of its rules that applies gives the grade and the remedy; if none
applies, the grade is ``ok``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Seen = TypeVar("Seen")


class Grade(StrEnum):
    """The result of a check. Only ``fail`` fails the command."""

    OK = "ok"
    WARN = "warn"  # works, and will hurt one day
    FAIL = "fail"  # does not work
    SKIP = "skip"  # nothing to check


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    grade: Grade
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Rule(Generic[Seen]):
    """When a check is not ``ok``, and the remedy."""

    grade: Grade
    applies: Callable[[Seen], bool]
    remedy: str = ""


class Check(Generic[Seen]):
    """One row of a table."""

    def __init__(self, name: str, describe: Callable[[Seen], str], *rules: Rule[Seen]) -> None:
        self.name = name
        self.describe = describe
        self.rules = rules

    def judge(self, seen: Seen) -> Finding:
        """The first rule that applies, or ``ok``."""
        rule = next((rule for rule in self.rules if rule.applies(seen)), None)
        detail = self.describe(seen)
        return Finding(self.name, rule.grade, detail, rule.remedy) if rule else Finding(self.name, Grade.OK, detail)


def warn(applies: Callable[[Seen], bool], remedy: str) -> Rule[Seen]:
    """A rule that warns."""
    return Rule(Grade.WARN, applies, remedy)


def fail(applies: Callable[[Seen], bool], remedy: str) -> Rule[Seen]:
    """A rule that fails the command."""
    return Rule(Grade.FAIL, applies, remedy)


def skip(applies: Callable[[Seen], bool]) -> Rule[Seen]:
    """A rule for facts that leave nothing to check."""
    return Rule(Grade.SKIP, applies)


def judge_all(checks: Iterable[Check[Seen]], seen: Seen) -> list[Finding]:
    """The findings of a table, in its order."""
    return [check.judge(seen) for check in checks]
