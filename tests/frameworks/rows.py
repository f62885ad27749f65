"""The rows of the table: released frameworks, each with one of the APIs that it calls.

A framework is given an address, a key and a model, and nothing else. An environment's rows stand in a module of their
own, which offers ``ROWS``; ``ALL`` lists them as the table shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

PLAIN: Final = "plain"
STREAM: Final = "stream"
TOOLS: Final = "tools"
STRUCTURED: Final = "structured"
ERRORS: Final = "errors"
STOP: Final = "stop"
LOST: Final = "killed worker"
CASES: Final = (PLAIN, STREAM, TOOLS, STRUCTURED, ERRORS, STOP, LOST)

CHAT, RESPONSES, MESSAGES = "chat", "responses", "messages"


@dataclass(frozen=True)
class Row:
    """One framework and API.

    ``environment`` names the driver (``drivers.ENVIRONMENTS``), which knows the row by its ``label``. ``surface`` is
    the API that the framework calls. ``finish`` is the finish reason of a whole answer, as the framework names it;
    None where the framework shows none. ``usage`` names the cases in which the framework shows the counts of tokens.
    ``reasons`` is why no server can satisfy a case: the test then shows that the provider itself does not.
    ``left_out`` is why no test runs a case; the table shows that. ``wires`` are those of the models to run.
    """

    label: str
    environment: str
    surface: str
    finish: str | None
    usage: frozenset[str] = frozenset({PLAIN, STREAM})
    reasons: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    wires: tuple[str, ...] = (CHAT, RESPONSES, MESSAGES)

    def __str__(self) -> str:
        return self.label
