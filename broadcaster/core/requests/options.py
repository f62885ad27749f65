"""The options of calls, once for the library, ``sync``, the client and the bodies of HTTP. Pure.

A type checker refuses an unknown name, and so does every call, before it sends anything (``check_options``).
tests/guards/test_options.py holds the names and types to the bodies of HTTP.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypedDict

from broadcaster.core.cursor import Cursor
from broadcaster.core.requests.webhook_options import WebhookOptions
from broadcaster.errors import InvalidInput

IfExists: TypeAlias = Literal["fail", "replace", "join"]
"""What a stream of the same id means: the creation fails, replaces it, or follows it."""
IF_EXISTS: Final = ("fail", "replace", "join")
ON_FULL: Final = ("refuse", "trim")
MAX_RETENTION_S: Final = 30 * 86_400.0
"""The longest time that a stream is kept after its end."""


class GenerationOptions(TypedDict, total=False):
    """The fields of ``POST /v1/generations`` (docs/http.md) beside prompt, messages and model.

    An option that is left out, or None, is the server's default.
    """

    system: str | None
    max_tokens: int | None
    temperature: float | None
    tools: Sequence[Mapping[str, Any]] | None
    max_steps: int | None
    metadata: Mapping[str, Any] | None
    on_worker_loss: Literal["retry", "fail"] | None
    on_provider_loss: Literal["fail", "retry"] | None
    priority: Literal["high", "normal", "low"] | None
    on_abandon: Literal["continue", "cancel"] | None
    retention_s: float | None
    webhook: WebhookOptions | None


class FeedOptions(TypedDict, total=False):
    """The options of a feed. An option left out, or None, is that of the settings.

    ``retention_s``: seconds it is kept after its end. ``max_events``, ``max_bytes``: its bounds; at them ``on_full``
    "refuse" (StreamFull) or "trim" (the oldest are removed, and viewers that are behind get a gap). ``metadata``: any
    JSON object. ``lease_s``: when no writer renews the lease for so many seconds, the feed ends with ``error``
    (``writer_lost``); its block renews it automatically. Without the option it is 15, of a ``sync.Publisher`` 30, of
    the client None; None: no lease. ``webhook``: ``{"url": …, "events": […]}``, which a worker calls once the feed is
    over (docs/webhooks.md).
    """

    retention_s: float | None
    max_events: int | None
    max_bytes: int | None
    on_full: Literal["refuse", "trim"]
    metadata: Mapping[str, Any] | None
    lease_s: float | None
    webhook: WebhookOptions | None


class ReadOptions(TypedDict, total=False):
    """The options of ``events`` that do not change the type of its events."""

    after: Cursor | str | None
    wait_s: float
    give_up_after_s: float


# The options' own levels: a list of tools, a tool, its fields. What is deeper is the caller's, as deep as it may be.
_LEVELS: Final = 3

# What a caller may have meant by a name that is no option, where the nearest name is another one.
_MEANT: Final = {"stream": "a generation is read with events(); stream is an option of HTTP"}


def check_options(call: str, given: Iterable[str], options: type, *, named: Iterable[str] = ()) -> None:
    """Raises TypeError for a name that is not one of ``options``, a TypedDict; it names the nearest one.

    ``named`` are the parameters of the call that have a name of their own.
    """
    known = sorted(options.__annotations__)
    unknown = [name for name in given if name not in known]
    if not unknown:
        return
    name = unknown[0]
    nearest = difflib.get_close_matches(name, [*known, *named], n=1)
    meant = f", did you mean {nearest[0]!r}?" if nearest else ""
    detail = _MEANT.get(name, f"broadcaster.{options.__name__} lists its options")
    raise TypeError(f"{call}() has no option {name!r}{meant or ':'} {detail}")


def generation_fields(
    options: GenerationOptions,
    *,
    prompt: str | None,
    messages: Sequence[Mapping[str, Any]] | None,
    model: str | None,
) -> dict[str, Any]:
    """The body of ``POST /v1/generations``, without what is None. Raises TypeError for an unknown option."""
    check_options("start", options, GenerationOptions, named=("prompt", "messages", "model", "idempotency_key"))
    fields = {"prompt": prompt, "messages": messages, "model": model, **options}
    return {name: _as_json(value) for name, value in fields.items() if value is not None}


def feed_fields(call: str, options: FeedOptions, *, named: Iterable[str] = ()) -> dict[str, Any]:
    """The body of ``PUT /v1/streams/{id}``, without what is None. Raises TypeError for an unknown option."""
    check_options(call, options, FeedOptions, named=named)
    return {name: _as_json(value) for name, value in options.items() if value is not None}


def check_feed_fields(fields: Mapping[str, Any], *, lease_s: tuple[float, float]) -> None:
    """Raises InvalidInput for a value that no feed can have, by the rules of HTTP's body.

    ``fields``: without what is None, as in `feed_fields`. ``lease_s``: the shortest and the longest lease. A
    webhook and the values in metadata are checked elsewhere.
    """
    for name in ("max_events", "max_bytes"):
        if not _is_number(value := fields.get(name, 1), int) or value < 1:
            raise InvalidInput(f"{name} is a whole number from 1 on, not {value!r:.60}")
    if not _is_number(value := fields.get("retention_s", 1), int, float) or not 0 < value <= MAX_RETENTION_S:
        raise InvalidInput(f"retention_s is above 0 and at most {MAX_RETENTION_S:.0f}, not {value!r:.60}")
    least, most = lease_s
    if not _is_number(value := fields.get("lease_s", least), int, float) or not least <= value <= most:
        raise InvalidInput(f"lease_s is {least:g} to {most:g}, or None, not {value!r:.60}")
    if (value := fields.get("on_full", "refuse")) not in ON_FULL:
        raise InvalidInput(f'on_full is "refuse" or "trim", not {value!r:.60}')
    if not isinstance(fields.get("metadata", {}), Mapping):
        raise InvalidInput("metadata is a JSON object")


def _is_number(value: object, *kinds: type) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)


def check_if_exists(if_exists: str) -> None:
    """Raises InvalidInput for a choice that there is not."""
    if if_exists not in IF_EXISTS:
        raise InvalidInput(f'if_exists is "fail", "replace" or "join", not {if_exists!r:.60}')


def _as_json(value: object, levels: int = _LEVELS) -> object:
    """Sequences and mappings of a caller's own types as lists and objects; everything else as it is."""
    if levels and isinstance(value, Mapping):
        return {name: _as_json(each, levels - 1) for name, each in value.items()}
    if levels and isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        return [_as_json(each, levels - 1) for each in value]
    return value
