"""Whose the tools of a request are: the worker's, which it runs, or the caller's, which end the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from broadcaster.errors import UnknownTool
from worker.tools import Tool, ToolBox

# What a caller may say of a tool of the worker's: its name, and that a provider's cache may end with it.
_OF_A_NAME_ALONE: Final = frozenset({"name", "cache_control"})


def names_a_tool(wish: Mapping[str, Any]) -> bool:
    """Whether this entry of a request's ``tools`` is a tool of the worker's: it is named, and nothing else."""
    return isinstance(wish.get("name"), str) and wish.keys() <= _OF_A_NAME_ALONE


@dataclass(frozen=True, slots=True)
class ToolSet:
    """The tools of one request; ``definitions`` is what its providers are told."""

    ours: Mapping[str, Tool]
    definitions: Sequence[Mapping[str, Any]]
    callers: frozenset[str]
    has_nameless: bool

    @classmethod
    def of(cls, wishes: Sequence[Mapping[str, Any]], box: ToolBox) -> ToolSet:
        """Read the ``tools`` of a request. Raises UnknownTool."""
        ours: dict[str, Tool] = {}
        definitions: list[Mapping[str, Any]] = []
        callers: list[str | None] = []
        for wish in wishes:
            if not names_a_tool(wish):
                callers.append(_name_of(wish))
                definitions.append(wish)
                continue
            known = box.get(wish["name"])
            if known is None:
                raise UnknownTool(f"the worker has no tool of the name {wish['name']!r}")
            ours[known.name] = known
            definitions.append({**known.definition, **wish})
        names = frozenset(name for name in callers if name is not None)
        return cls(ours, definitions, names - ours.keys(), None in callers)

    def is_callers(self, name: str) -> bool:
        """Whether a call of this name is the caller's to answer.

        A name that nobody has given is nobody's, unless there are tools that are called otherwise than they are named.
        """
        return name in self.callers or (self.has_nameless and name not in self.ours)


def _name_of(wish: Mapping[str, Any]) -> str | None:
    match wish:
        case {"function": {"name": str(name)}} | {"custom": {"name": str(name)}} | {"name": str(name)}:
            return name
        case _:
            return None
