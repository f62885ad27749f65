"""Functions in a namespace, which only the Responses wire has: on another wire each has the namespace in its name.

Rules
1. A stored request holds every function of a namespace as a tool of its own, under the joined name. The key
   ``namespace`` under ``openai`` of a namespace's first function keeps the namespace's own fields. The functions that
   follow, and calls, keep its name alone: a description is stored once.
2. The Responses wire receives the namespaces as they were; the other wires receive functions.
3. A Response shows a call of a joined name as a call of the function that its caller offered.
4. A name of a namespace, or of a function in it, has at most ``MAX_NAME`` characters, because each joined name repeats
   the namespace's. A joined name belongs to one function.
5. A namespace that holds anything but functions is stored as it came. A provider that does not know it refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from broadcaster.dialects.reading import Json

NAMESPACE: Final = "namespace"
"""The type of the tool, the field of a call, and the key under ``openai``."""
_SEPARATOR: Final = "__"
MAX_NAME: Final = 64
"""The most characters that OpenAI's API accepts in the name of a function."""


class Namespaced(NamedTuple):
    """A function's place."""

    namespace: str
    name: str

    @property
    def joined(self) -> str:
        """Its name where there are no namespaces."""
        return f"{self.namespace}{_SEPARATOR}{self.name}"

    def fields(self) -> Json:
        """Both, as a call of the Responses wire has them."""
        return {"name": self.name, NAMESPACE: self.namespace}


def functions_in(tool: Mapping[str, Any]) -> Sequence[Json] | None:
    """The functions of a namespace under their joined names; None for any other tool (rule 5)."""
    match tool:
        case {"type": "namespace", "name": str(namespace), "tools": [_, *_] as tools} if all(map(_is_function, tools)):
            return [{**function, "name": Namespaced(namespace, function["name"]).joined} for function in tools]
        case _:
            return None


def _is_function(tool: Any) -> bool:
    match tool:
        case {"type": "function", "name": str(name)}:
            return bool(name)
        case _:
            return False


def stored_places(tool: Mapping[str, Any]) -> list[Json | str]:
    """What each function of a namespace stores of it (rule 1)."""
    head = {name: value for name, value in tool.items() if name != "tools"}
    return [head, *[tool["name"]] * (len(tool["tools"]) - 1)]


def places(tools: Any) -> dict[str, Namespaced]:
    """The functions of all namespaces of a Responses request, by their joined names."""
    found = {}
    for tool in tools if isinstance(tools, list) else ():
        for function in tool["tools"] if isinstance(tool, dict) and functions_in(tool) is not None else ():
            place = Namespaced(tool["name"], function["name"])
            found[place.joined] = place
    return found


def bare(name: Any, namespace: Any) -> Json:
    """``name`` and ``namespace`` of a call that is stored under its joined name."""
    prefix = f"{namespace}{_SEPARATOR}"
    if isinstance(namespace, str) and isinstance(name, str) and name.startswith(prefix):
        return Namespaced(namespace, name.removeprefix(prefix)).fields()
    return {"name": name}


def grouped(tools: Iterable[tuple[Json, Any]]) -> list[Json]:
    """The tools of the Responses wire: each as it is sent, with what it keeps of its namespace (rule 1)."""
    sent: list[Json] = []
    group: Json | None = None
    for tool, kept in tools:
        match tool, kept:
            case {"name": str()}, {"type": "namespace", "name": str()}:
                group = {**kept, "tools": []}
                sent.append(group)
            case {"name": str()}, str() if group is not None and group["name"] == kept:
                pass
            case _:
                group = None
        if group is None:
            sent.append(tool)
        else:
            group["tools"].append({**tool, "name": bare(tool["name"], group["name"])["name"]})
    return sent
