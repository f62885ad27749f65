"""Signatures as their authors wrote them: annotations as text, defaults as values."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from typing import Any, ForwardRef, get_overloads

LINE_CHARS = 100
_EMPTY = inspect.Parameter.empty


def call_of(name: str, function: Any) -> str:
    """The call as code, one signature for each overload."""
    known = inspect.unwrap(function)
    return "\n".join(_one(name, each, known) for each in get_overloads(known) or [known])


def constructor_of(name: str, kind: type) -> str:
    """The constructor as code; the name alone for a class that has none of its own."""
    if "__init__" not in vars(kind):
        return f"class {name}"
    return _laid_out(f"class {name}", inspect.signature(vars(kind)["__init__"]), returns="")


def fields_of(kind: type) -> Iterator[tuple[str, str, str]]:
    """Name, type and default of each public field of a structure, in their order."""
    defaults = _defaults_of(kind)
    annotations: Mapping[str, Any] = kind.__annotations__
    for parent in kind.__mro__[1:]:
        annotations = {**vars(parent).get("__annotations__", {}), **annotations}
    for name, annotation in annotations.items():
        if not name.startswith("_"):
            yield name, type_text(annotation), defaults.get(name, "")


def type_text(annotation: Any) -> str:
    """An annotation as it was written."""
    if isinstance(annotation, ForwardRef):
        annotation = annotation.__forward_arg__
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return text.replace("'", '"')


def value_text(value: Any) -> str:
    """A default as code."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if inspect.isclass(value) or inspect.isroutine(value):
        return str(value.__name__)
    return repr(value)


def _one(name: str, function: Any, known: Any) -> str:
    is_async = inspect.iscoroutinefunction(known)
    signature = inspect.signature(function)
    returns = "" if signature.return_annotation is _EMPTY else f" -> {type_text(signature.return_annotation)}"
    return _laid_out(f"{'await ' if is_async else ''}{name}", signature, returns=returns)


def _laid_out(head: str, signature: inspect.Signature, *, returns: str) -> str:
    shown = list(_parameters(signature))
    line = f"{head}({', '.join(shown)}){returns}"
    if len(line) <= LINE_CHARS or not shown:
        return line
    return "\n".join([f"{head}(", *(f"    {each}," for each in shown), f"){returns}"])


def _parameters(signature: inspect.Signature) -> Iterator[str]:
    before: Any = None
    for each in signature.parameters.values():
        if each.name in ("self", "cls"):
            continue
        if each.kind is each.KEYWORD_ONLY and before not in (each.KEYWORD_ONLY, each.VAR_POSITIONAL):
            yield "*"
        before = each.kind
        stars = "*" * ((each.kind is each.VAR_POSITIONAL) + 2 * (each.kind is each.VAR_KEYWORD))
        typed = "" if each.annotation is _EMPTY else f": {type_text(each.annotation)}"
        default = "" if each.default is _EMPTY else f" = {value_text(each.default)}"
        yield f"{stars}{each.name}{typed}{default}"


def _defaults_of(kind: type) -> Mapping[str, str]:
    if hasattr(kind, "__struct_config__") or hasattr(kind, "__dataclass_fields__"):
        parameters = inspect.signature(kind).parameters.values()
        return {each.name: value_text(each.default) for each in parameters if each.default is not _EMPTY}
    return {name: value_text(value) for name, value in getattr(kind, "_field_defaults", {}).items()}
