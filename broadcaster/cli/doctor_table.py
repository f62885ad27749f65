"""How the doctor judges: tables of checks, pure. What is seen goes in, findings come out.

A check says what is seen in one line; its rules are tried in their order, the first that applies gives the verdict and
the remedy; where none applies all is well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Seen = TypeVar("Seen")


class Verdict(StrEnum):
    """What a check came to. Only ``fail`` fails the command."""

    OK = "ok"
    WARN = "warn"  # works, and will hurt one day
    FAIL = "fail"  # does not work
    SKIP = "skip"  # nothing to check


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    verdict: Verdict
    said: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Rule(Generic[Seen]):
    """When a check is not ``ok``, and what to do about it."""

    verdict: Verdict
    applies: Callable[[Seen], bool]
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Check(Generic[Seen]):
    """One row of a table."""

    name: str
    say: Callable[[Seen], str]
    rules: tuple[Rule[Seen], ...] = ()

    def judge(self, seen: Seen) -> Finding:
        """The first rule that applies, or ``ok``."""
        for rule in self.rules:
            if rule.applies(seen):
                return Finding(self.name, rule.verdict, self.say(seen), rule.remedy)
        return Finding(self.name, Verdict.OK, self.say(seen))


def judge_all(checks: Iterable[Check[Seen]], seen: Seen) -> list[Finding]:
    """The findings of a table, in its order."""
    return [check.judge(seen) for check in checks]
