"""Tools: Python functions that a model may call, and that the worker runs for it.

    from worker.tools import ToolBox, ToolContext

    box = ToolBox()

    @box.tool(timeout_s=10, repeatable=True)
    async def weather(city: str, context: ToolContext) -> dict[str, float]:
        '''The weather in a city, now.'''
        await context.progress({"message": "asking"})
        return {"celsius": 21.5}

``BROADCASTER_TOOLS=package.module:box`` registers the box with a worker. A request names the tools that the model may
use (``"tools": [{"name": "weather"}]``).

Rules
1. The signature is the schema: pydantic reads its annotations and checks the arguments, so that a function is called
   only with valid arguments. The docstring is the description. The worker fills a parameter of type ToolContext.
2. An ``async`` function is cancelled by a stop, a drain, a lost lease and its timeout. A plain function runs in its own
   thread, which cannot be killed: it runs until it returns, and its result is dropped. An awaitable that it returns,
   as a plain decorator of an ``async`` function does, is awaited like an ``async`` function.
3. ``repeatable`` allows a call to be made twice with the same ``idempotency_key``. If a call of another tool was begun
   by a lost worker and has no result in the log, the generation ends, because the outcome of the call is unknown.
4. The model and the viewers see the text of a ToolError. They do not see the text of any other exception.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, get_args, get_type_hints, overload

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import PydanticSerializationError, to_jsonable_python

from broadcaster.core import events as ev
from broadcaster.core.requests.json_values import is_too_deep
from broadcaster.errors import SetupError

NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Every provider accepts these names of tools."""
PROGRESS_TYPE: Final = "data-progress"
_MAX_ERROR_CHARS: Final = 2000

_F = TypeVar("_F", bound=Callable[..., Any])


class ToolError(Exception):
    """Raised by a tool that failed. The model and the viewers may see its text."""


class BadArguments(Exception):
    """The model called a tool with invalid arguments; the text names them without their values."""


class BadOutput(Exception):
    """A tool returned a value that cannot be encoded as JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a tool may know about its call. ``step`` counts from 1, ``index`` from 0 among the calls of the step.

    ``tenant`` is the name of the key of the generation's request, ``metadata`` is the request's metadata.
    """

    generation_id: str
    tenant: str
    metadata: Mapping[str, Any]
    step: int
    index: int
    tool_call_id: str
    tell: Callable[[ev.Event], None] = field(repr=False)

    @property
    def idempotency_key(self) -> str:
        """The same for every repetition of this call, on any worker."""
        return f"{self.generation_id}:{self.step}:{self.index}"

    async def progress(self, data: Any) -> None:
        """Show the progress to viewers: ``{"done": 3, "total": 10, "message": …}``, or any JSON that they understand.

        Raises BadOutput if it cannot be encoded as JSON.
        """
        self.progress_nowait(data)

    def progress_nowait(self, data: Any) -> None:
        """The same for a plain function, from its thread. It has no effect after the end of the call."""
        self.tell(ev.DataEvent(type=PROGRESS_TYPE, id=self.tool_call_id, data=as_json(data)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A registered function. ``timeout_s`` None: the worker's ``BROADCASTER_TOOL_TIMEOUT_S``."""

    name: str
    description: str
    function: Callable[..., Any]
    repeatable: bool
    timeout_s: float | None
    arguments: type[BaseModel]
    parameters: Mapping[str, str]
    context_parameter: str | None

    @property
    def is_async(self) -> bool:
        """Whether it runs in the worker's loop; otherwise it begins in a thread."""
        return inspect.iscoroutinefunction(self.function)

    @property
    def definition(self) -> dict[str, Any]:
        """The tool as the Messages API defines it."""
        schema = self.arguments.model_json_schema()
        schema.pop("title", None)
        described = {"description": self.description} if self.description else {}
        return {"name": self.name, **described, "input_schema": schema}

    def bind(self, input: Any, context: ToolContext) -> dict[str, Any]:
        """The function's arguments. Raises BadArguments; the tool's own validators may raise anything."""
        try:
            known = self.arguments.model_validate_json(msgspec.json.encode(input))
        except ValidationError as error:
            raise BadArguments(_argument_errors(error)) from None
        bound = {parameter: getattr(known, name) for name, parameter in self.parameters.items()}
        return bound if self.context_parameter is None else {**bound, self.context_parameter: context}


class ToolBox:
    """The tools of a worker, by name."""

    def __init__(self, *tools: Tool) -> None:
        self._tools: dict[str, Tool] = {}
        for each in tools:
            self.add(each)

    def add(self, added: Tool) -> None:
        """Add a tool. Raises ValueError if the box has one with its name."""
        if added.name in self._tools:
            raise ValueError(f"there are two tools named {added.name!r}")
        self._tools[added.name] = added

    @overload
    def tool(self, function: _F, /) -> _F: ...

    @overload
    def tool(
        self, /, *, name: str | None = None, timeout_s: float | None = None, repeatable: bool = False
    ) -> Callable[[_F], _F]: ...

    def tool(
        self,
        function: _F | None = None,
        /,
        *,
        name: str | None = None,
        timeout_s: float | None = None,
        repeatable: bool = False,
    ) -> _F | Callable[[_F], _F]:
        """Register a function, as a decorator with or without options; the function itself is unchanged.

        Raises ValueError and TypeError as ``tool`` does.
        """

        def register(function: _F) -> _F:
            self.add(tool(function, name=name, timeout_s=timeout_s, repeatable=repeatable))
            return function

        return register if function is None else register(function)

    def get(self, name: str) -> Tool | None:
        """The tool of this name."""
        return self._tools.get(name)

    def __iter__(self) -> Iterator[Tool]:
        return iter(self._tools.values())

    def __len__(self) -> int:
        return len(self._tools)


def tool(
    function: Callable[..., Any], *, name: str | None = None, timeout_s: float | None = None, repeatable: bool = False
) -> Tool:
    """A function as a tool, for ``ToolBox(tool(f), tool(g))``.

    Raises (1) ValueError for a name that providers refuse or an invalid timeout, (2) TypeError for a parameter without
    a name or an annotation, and for a function that does not return its result (a generator).
    """
    name = name or str(getattr(function, "__name__", ""))
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a tool: letters, digits, `_` and `-`, at most 64")
    if timeout_s is not None and not timeout_s > 0:
        raise ValueError(f"the tool {name} needs a timeout_s above 0")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"the tool {name} must return its result: it is a generator")
    fields, context_parameter = _read_signature(function, name)
    names = {f"p{at}": parameter for at, parameter in enumerate(fields)}
    # By aliases, since a parameter may be called what a model's field may not (`json`, `_id`, `model_config`).
    arguments: type[BaseModel] = create_model(  # type: ignore[call-overload]
        name,
        __config__=ConfigDict(extra="forbid", alias_generator=names.__getitem__),
        **{f"p{at}": known for at, known in enumerate(fields.values())},
    )
    made = Tool(
        name=name,
        description=inspect.getdoc(function) or "",
        function=function,
        repeatable=repeatable,
        timeout_s=timeout_s,
        arguments=arguments,
        parameters=names,
        context_parameter=context_parameter,
    )
    made.definition  # noqa: B018 - a type without a schema is refused now
    return made


def load_tools(place: str) -> ToolBox:
    """The box at ``package.module:name``. Raises SetupError."""
    module, _, name = place.partition(":")
    if not module or not name:
        raise SetupError(f"BROADCASTER_TOOLS must name a box as `package.module:box`, not {place!r}")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # an import may raise anything
        raise SetupError(f"BROADCASTER_TOOLS: {module} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(found, ToolBox):
        raise SetupError(f"BROADCASTER_TOOLS: {module} has no worker.tools.ToolBox named {name!r}")
    return found


def as_json(value: Any) -> Any:
    """The value as plain JSON: models, dataclasses, dates, sets and the like are converted. Raises BadOutput."""
    try:
        plain = to_jsonable_python(value)
        json = msgspec.json.decode(msgspec.json.encode(plain))
    except (PydanticSerializationError, msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise BadOutput(type(error).__name__) from None
    if is_too_deep(json):
        raise BadOutput("nested too deeply")
    return json


def _read_signature(function: Callable[..., Any], name: str) -> tuple[dict[str, tuple[Any, Any]], str | None]:
    """Parameter → annotation and default (``...``: none), and the parameter of the context."""
    hints = get_type_hints(function, include_extras=True)
    fields: dict[str, tuple[Any, Any]] = {}
    context_parameter = None
    for each in inspect.signature(function).parameters.values():
        if each.kind not in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            raise TypeError(f"the tool {name} must take its parameters by name: {each}")
        if each.name not in hints:
            raise TypeError(f"the tool {name} needs a type for its parameter {each.name}")
        hint = hints[each.name]
        if hint is ToolContext or ToolContext in get_args(hint):
            context_parameter = each.name
        else:
            fields[each.name] = (hint, ... if each.default is inspect.Parameter.empty else each.default)
    return fields, context_parameter


def _argument_errors(error: ValidationError) -> str:
    """The errors in the arguments, for the model: names and reasons without the values that it has sent."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    text = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'the arguments'}: {fault['msg']}" for fault in faults)
    return f"the arguments do not fit: {text}"[:_MAX_ERROR_CHARS]
