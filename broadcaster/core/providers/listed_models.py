"""A provider's list of its models: parsed from its response, stored in few bytes, under the names that callers request.

Rules
1. Both shapes are read, OpenAI's and Anthropic's, and a bare list. A field that is missing or malformed is left out; an
   entry without a usable id is left out whole.
2. A list is bounded: MAX_MODELS names, and MAX_BYTES as it is kept.
3. A model of a provider is listed under each name by which it can be requested here: the first target of the name's
   route is this provider, under this very model's id. Names that lead elsewhere, or nowhere, are not listed.
4. The names of the routes come first, and are listed whatever the providers' lists hold: a provider may serve names
   that it does not list.
5. Where the list of a provider is not known, the patterns of the routes to it are listed (``gpt-*``), so that a caller
   sees which names are served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from broadcaster.core.providers.model_routing import ModelRoutes

MAX_MODELS: Final = 2000
MAX_BYTES: Final = 256 * 2**10
MAX_LISTED: Final = 5000
"""Names in one response of ours."""
_MAX_CHARS: Final = 200
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999


class ListedModel(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A model as its provider lists it. ``name`` is for people, ``created`` in Unix seconds."""

    id: str
    name: str | None = None
    created: int | None = None
    owner: str | None = None


ModelLists: TypeAlias = Mapping[str, Mapping[str, ListedModel]]
"""Provider → its models by their ids."""


class ModelPage(NamedTuple):
    """One page of a list; ``after`` is the id behind which the next one begins, None: this is the last."""

    models: Sequence[ListedModel]
    after: str | None


class RequestableModel(NamedTuple):
    """A name that callers can request, its route's first provider, and the model as that provider lists it."""

    name: str
    provider: str
    listed: ListedModel


class _Page(msgspec.Struct):
    data: list[msgspec.Raw]
    has_more: Any = False
    last_id: Any = None


class _Entry(msgspec.Struct):
    id: Any = None
    display_name: Any = None
    name: Any = None
    created: Any = None
    created_at: Any = None
    owned_by: Any = None


class _StoredList(msgspec.Struct):
    models: list[ListedModel]


def read_page(body: bytes) -> ModelPage:
    """Rule 1. Raises ValueError when this is no list of models."""
    try:
        page = msgspec.json.decode(body, type=_Page | list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("not a list of models") from None
    rows, after = (page, None) if isinstance(page, list) else (page.data, page.last_id if page.has_more else None)
    found = [model for row in rows[:MAX_MODELS] if (model := _read_entry(row)) is not None]
    return ModelPage(found, after if isinstance(after, str) and after else None)


def _read_entry(row: msgspec.Raw) -> ListedModel | None:
    try:
        entry = msgspec.json.decode(row, type=_Entry)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    id = _clean_text(entry.id)
    if id is None:
        return None
    name = _clean_text(entry.display_name) or _clean_text(entry.name)
    created = _seconds(entry.created)
    return ListedModel(
        id=id,
        name=None if name == id else name,
        created=_seconds(entry.created_at) if created is None else created,
        owner=_clean_text(entry.owned_by),
    )


def _clean_text(value: Any) -> str | None:
    """A short text of one printable line, else None."""
    is_one = isinstance(value, str) and 0 < len(value) <= _MAX_CHARS and value.isprintable() and value == value.strip()
    return value if is_one else None


def _seconds(value: Any) -> int | None:
    """A date as Unix seconds: a number, or a text of ISO 8601. The epoch itself means that it is not known."""
    if isinstance(value, str):
        try:
            date = datetime.fromisoformat(value)
            value = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    is_date = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LAST_SECOND
    return int(value) if is_date else None


def encode_list(models: Sequence[ListedModel]) -> bytes:
    """Rule 2: the list as it is kept, without its end where it is too long."""
    kept = list({model.id: model for model in models[:MAX_MODELS]}.values())
    raw = msgspec.json.encode(_StoredList(kept))
    while len(raw) > MAX_BYTES:
        kept = kept[: len(kept) * 3 // 4]
        raw = msgspec.json.encode(_StoredList(kept))
    return raw


def decode_list(raw: bytes) -> Mapping[str, ListedModel] | None:
    """The kept list by its ids; None: another version wrote it, in a way that this one cannot read."""
    try:
        return {model.id: model for model in msgspec.json.decode(raw, type=_StoredList).models}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def requestable(routes: ModelRoutes, lists: ModelLists, *, default: str) -> list[RequestableModel]:
    """Rules 3 to 5: every name once, ``default`` first."""
    found = {name: requestable_as(routes, lists, name) for name in (default, *routes.names)}
    for provider, models in lists.items():
        for listed in models.values():
            for name in routes.names_of(listed.id, provider):
                if len(found) < MAX_LISTED:
                    found.setdefault(name, RequestableModel(name, provider, listed))
    for pattern, target in routes.patterns.items():
        if target.provider not in lists:
            found.setdefault(pattern, RequestableModel(pattern, target.provider, ListedModel(id=pattern)))
    return list(found.values())


def requestable_as(routes: ModelRoutes, lists: ModelLists, name: str) -> RequestableModel:
    """The model of this name, whether some list has it or not. Raises UnknownModel when no route serves the name."""
    target = routes.targets_for(name)[0]
    listed = lists.get(target.provider, {}).get(target.model_for(name), ListedModel(id=name))
    return RequestableModel(name, target.provider, listed)
