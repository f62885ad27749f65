"""What the reference documents: one page for each module that users import.

A page has the names of the module's ``__all__``, then the classes whose objects calls return, then aliases of types.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any, Final

from broadcaster import errors


@dataclass(frozen=True)
class Page:
    """``module``: whose names these are. ``returned``: dotted names of classes that users meet and do not import."""

    name: str
    module: str
    introduction: str
    names: Sequence[str] = ()
    returned: Sequence[str] = ()

    @property
    def returned_names(self) -> frozenset[str]:
        """The classes whose objects calls return."""
        return frozenset(path.rpartition(".")[2] for path in self.returned)

    @property
    def objects(self) -> Mapping[str, Any]:
        """What the page documents, by name: its own names first."""
        module = import_module(self.module)
        own = {name: getattr(module, name) for name in self.names or module.__all__}
        return own | {path.rpartition(".")[2]: _found(path) for path in self.returned}

    def document_of(self, alias: str) -> str:
        """The text below an alias in its module; empty: there is none."""
        path = next((path for path in self.returned if path.rpartition(".")[2] == alias), f"{self.module}.{alias}")
        module = import_module(path.rpartition(".")[0])
        body = ast.parse(inspect.getsource(module)).body
        for statement, after in pairwise(body):
            is_alias = isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == alias
            if is_alias and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                return str(after.value.value)
        return ""


def _found(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _errors() -> Sequence[str]:
    return [name for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, Exception)]


PAGES: Final = (
    Page(
        "broadcaster",
        "broadcaster",
        "For programs with an event loop: publish, read and generate over Redis directly ([guide](../library.md)).",
        returned=(
            "broadcaster.library.broadcaster.BroadcasterStatistics",
            "broadcaster.library.feed.OpenFeed",
            "broadcaster.library.publications.Publication",
            "broadcaster.library.results.StreamResult",
            "broadcaster.library.results.OnEnd",
            "broadcaster.library.sources.tee.Tee",
            "broadcaster.library.writer.WriterStatistics",
            "broadcaster.core.requests.options.IfExists",
            "broadcaster.web.asgi_app.MountableApp",
            "broadcaster.web.asgi_app.WatchResponse",
        ),
    ),
    Page(
        "sync",
        "broadcaster.sync",
        "For programs without an event loop: Celery, RQ, Django, threads ([guide](../publishing.md)).",
        returned=("broadcaster.sync.feed.FeedStatistics",),
    ),
    Page(
        "jupyter",
        "broadcaster.jupyter",
        "A live display of a stream in a notebook's cell ([guide](../library.md#show-it-in-a-notebook)).",
    ),
    Page(
        "django",
        "broadcaster.django",
        "A stream as the response of a view of Django ([guide](../hosts.md#one-stream-as-a-route-of-your-own)).",
        names=("stream_response",),
    ),
    Page(
        "client",
        "broadcaster.client",
        "The Python client of a front-end: everything over HTTP ([routes](../http.md)).",
    ),
    Page(
        "errors",
        "broadcaster.errors",
        "The errors of the library, of `broadcaster.sync` and of HTTP. Programs branch on the class or on its `code`; "
        "`status` is the HTTP status, and `retry` is whether the same call may succeed later.",
        names=_errors(),
    ),
    Page(
        "worker",
        "worker.tools",
        "Tools of a worker ([guide](../tools.md)).",
        names=("ToolBox", "ToolContext", "ToolError", "Tool", "tool"),
    ),
    Page(
        "testing",
        "broadcaster.testing",
        "The scripted provider, for tests ([guide](../testing.md)).",
    ),
)

INTERNAL: Final[Mapping[str, frozenset[str]]] = {
    "OpenFeed": frozenset({"end_from_outside", "creation", "is_ending", "stopped_for"}),
    "Publication": frozenset({"cancel_nowait", "cancel_source", "creation"}),
    "StreamResult": frozenset({"of"}),
    "Feed": frozenset({"begin_to_leave", "begin_anew"}),
    "Publisher": frozenset({"begin_to_end", "end_in_time", "begin_anew"}),
    "ToolContext": frozenset({"tell"}),
    **dict.fromkeys(
        ("Answer", "BadJson", "Cut", "Hang", "Headers", "PacedText", "Reset", "Send", "SendCut", "SendRaw", "Wait"),
        frozenset({"run"}),
    ),
}
"""Members that other rooms of the package use, and users do not."""

MADE_BY_CALLS: Final = frozenset(
    {"OpenFeed", "Publication", "StreamResult", "Tee", "MountableApp", "WatchResponse", "Feed", "ToolContext", "Tool"}
)
"""Classes whose constructor is not for users: a call returns their objects."""


def documented() -> Iterator[tuple[Page, str, Any]]:
    """Every object of every page."""
    for page in PAGES:
        for name, each in page.objects.items():
            yield page, name, each
