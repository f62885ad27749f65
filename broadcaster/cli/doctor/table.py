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


@dataclass(frozen=True, slots=True)
class Check(Generic[Seen]):
    """One row of a table."""

    name: str
    describe: Callable[[Seen], str]
    rules: tuple[Rule[Seen], ...] = ()

    def judge(self, seen: Seen) -> Finding:
        """The first rule that applies, or ``ok``."""
        for rule in self.rules:
            if rule.applies(seen):
                return Finding(self.name, rule.grade, self.describe(seen), rule.remedy)
        return Finding(self.name, Grade.OK, self.describe(seen))


def judge_all(checks: Iterable[Check[Seen]], seen: Seen) -> list[Finding]:
    """The findings of a table, in its order."""
    return [check.judge(seen) for check in checks]
