"""Splits the tools of a request: the worker runs its own, and a call of the caller's ends the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.errors import UnknownTool
from worker.tools import Tool, ToolBox

# The fields of an entry for a tool of the worker: its name, and that a provider's cache may end with it.
_OF_A_NAME_ALONE: Final = frozenset({"name", "cache_control"})


def names_a_tool(entry: Mapping[str, Any]) -> bool:
    """Whether this entry of a request's ``tools`` only names a tool, which is then the worker's."""
    return isinstance(entry.get("name"), str) and entry.keys() <= _OF_A_NAME_ALONE


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools of one request; its providers get the ``definitions``."""

    ours: Mapping[str, Tool]
    definitions: Sequence[Mapping[str, Any]]
    callers: frozenset[str]
    has_nameless: bool

    @classmethod
    def of(cls, entries: Sequence[Mapping[str, Any]], box: ToolBox) -> ToolSet:
        """Read the ``tools`` of a request. Raises UnknownTool."""
        ours: dict[str, Tool] = {}
        definitions: list[Mapping[str, Any]] = []
        callers: list[str | None] = []
        for entry in entries:
            if not names_a_tool(entry):
                callers.append(_name_of(entry))
                definitions.append(entry)
                continue
            known = box.get(entry["name"])
            if known is None:
                raise UnknownTool(f"the worker has no tool of the name {entry['name']!r}")
            ours[known.name] = known
            definitions.append({**known.definition, **entry})
        names = frozenset(name for name in callers if name is not None)
        return cls(ours, definitions, names - ours.keys(), None in callers)

    def is_callers(self, name: str) -> bool:
        """Whether the caller answers a call of this name.

        An unknown name belongs to the caller only if the request has tools whose calls have another name than their
        entry.
        """
        return name in self.callers or (self.has_nameless and name not in self.ours)


def _name_of(entry: Mapping[str, Any]) -> str | None:
    match entry:
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return name
        case _:
            return None
