"""The options of calls are those of HTTP's bodies and of the settings, by name and by type.

``python -m tests.guards.test_options`` prints broadcaster/settings/options.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import pytest
from pydantic import BaseModel, SecretStr

import broadcaster
from broadcaster import Broadcaster, sync
from broadcaster.client import AsyncClient
from broadcaster.core.requests.options import FeedOptions, GenerationOptions, check_options
from broadcaster.settings import Settings
from broadcaster.web.documents.feed_schemas import FeedBody
from broadcaster.web.documents.schemas import GenerationBody
from tests.guards.source import ROOT

OF_START: Final = frozenset({"prompt", "messages", "model"})
"""Fields of the body that ``start`` takes by parameters of their own."""
OF_HTTP: Final = frozenset({"stream"})
"""How HTTP responds."""
NOT_BY_KEYWORD: Final = frozenset({"redis_url", "url"})
"""The first argument of ``from_url``, and the setting of the CLI that has that argument's name."""
OF_PUBLISHER: Final = "buffer_bytes"
"""A setting whose name is a parameter of ``Publisher.from_url``."""

HEAD: Final = '''"""The settings as keywords of ``from_url``. Printed by ``python -m tests.guards.test_options``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class PublisherSettingOptions(TypedDict, total=False):
    """The settings that ``sync.Publisher.from_url`` takes by keyword; docs/settings.md describes them."""

'''
TAIL: Final = '''

class SettingOptions(PublisherSettingOptions, total=False):
    """The settings that ``from_url`` takes by keyword; docs/settings.md describes them."""

'''


@pytest.mark.parametrize(
    ("options", "body", "others"),
    [(GenerationOptions, GenerationBody, OF_START | OF_HTTP), (FeedOptions, FeedBody, frozenset())],
)
def test_a_call_has_the_options_that_the_body_has(options: type, body: type[BaseModel], others: frozenset[str]) -> None:
    of_call = {name: shape(kind) for name, kind in get_type_hints(options).items()}
    of_body = {name: shape(field.annotation) for name, field in body.model_fields.items() if name not in others}
    assert of_call == of_body


def test_the_settings_are_the_keywords_of_from_url() -> None:
    assert (ROOT / "broadcaster" / "settings" / "options.py").read_text("utf-8") == settings_module(), (
        "python -m tests.guards.test_options > broadcaster/settings/options.py"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("temprature", "start() has no option 'temprature', did you mean 'temperature'? broadcaster.GenerationOptions"),
        ("promt", "did you mean 'prompt'?"),
        ("zzz", "start() has no option 'zzz': broadcaster.GenerationOptions lists its options"),
        ("stream", "a generation is read with events()"),
    ],
)
def test_an_unknown_option_is_refused_with_the_name_that_was_meant(given: str, message: str) -> None:
    check_options("start", ["temperature", "webhook"], GenerationOptions)
    with pytest.raises(TypeError) as refused:
        check_options("start", ["temperature", given], GenerationOptions, named=("prompt", "messages"))
    assert message in str(refused.value)


async def test_every_call_refuses_an_unknown_option_before_it_sends_anything() -> None:
    nowhere, wrong = "redis://nowhere.invalid:1", cast("Any", {"max_evnts": 5})
    one, publisher = Broadcaster.from_url(nowhere), sync.Publisher.from_url(nowhere)
    blocking = sync.BlockingBroadcaster.from_url(nowhere)
    calls: list[Callable[[], object]] = [
        lambda: one.feed("f", **wrong),
        lambda: one.publish_nowait(["a"], **wrong),
        lambda: publisher.feed("f", **wrong),
        lambda: blocking.publish(["a"], **wrong),
        lambda: blocking.start("hi", **wrong),
        *(lambda kind=kind: kind.from_url(nowhere, **wrong) for kind in (Broadcaster, sync.Publisher)),
    ]
    for call in calls:
        with pytest.raises(TypeError, match="max_evnts"):
            call()
    async with AsyncClient("http://nowhere.invalid:1") as client:
        for sent in (client.start("hi", **wrong), client.create_stream("f", **wrong), one.publish(["a"], **wrong)):
            with pytest.raises(TypeError, match="max_evnts"):
                await sent


def test_the_error_names_a_class_that_the_package_gives() -> None:
    for name in ("GenerationOptions", "FeedOptions", "SettingOptions", "ReadOptions", "PublisherSettingOptions"):
        assert is_typeddict(getattr(broadcaster, name))


def test_a_type_checker_refuses_an_option_that_does_not_exist(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    checker = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path / "cache")]
    command = [*checker, "--follow-imports=silent", str(program)]
    ran = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    refused = {int(line.split(":")[1]) for line in ran.stdout.splitlines() if "[call-" in line or "[arg-type]" in line}
    expected = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# refused")}
    assert refused == expected, ran.stdout + ran.stderr


PROGRAM: Final = """
from broadcaster import Broadcaster, sync
from broadcaster.client import AsyncClient, Client

URL = "redis://localhost"


async def loop(one: Broadcaster, client: AsyncClient) -> None:
    Broadcaster.from_url(URL, retention_s=5, cors_origins=["https://a.example"], routes={"m": "local"})
    Broadcaster.from_url(URL, retention=5)  # refused
    await one.start("hi", temperature=1, tools=[{"name": "x"}], webhook={"url": "https://a.example/"})
    await one.start("hi", temprature=1)  # refused
    await one.start("hi", temperature="1")  # refused
    one.feed("f", retention_s=5)
    one.feed("f", retention=5)  # refused
    await one.publish(["a"], max_event=5)  # refused
    one.publish_nowait(["a"], max_event=5)  # refused
    one.tee(["a"], max_event=5)  # refused
    one.events("f", afer="1")  # refused
    await client.start("hi", temprature=1)  # refused
    await client.create_stream("f", max_event=5)  # refused


def blocking(one: sync.BlockingBroadcaster, publisher: sync.Publisher, client: Client) -> None:
    sync.BlockingBroadcaster.from_url(URL, retention=5)  # refused
    sync.Publisher.from_url(URL, retention=5)  # refused
    sync.Publisher.from_url(URL, retention_s=5, buffer_bytes=5)
    one.start("hi", temprature=1)  # refused
    one.publish(["a"], max_event=5)  # refused
    one.events("f", afer="1")  # refused
    publisher.feed("f", max_event=5)  # refused
    client.start("hi", temprature=1)  # refused
    client.create_stream("f", max_event=5)  # refused
"""


def shape(kind: Any) -> object:
    """A type as both sides have it: without None, which means not given, and with JSON's arrays and objects."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return shape(arguments[0])
    if origin in (Union, UnionType):
        kinds = {shape(each) for each in arguments if each is not NoneType}
        return kinds.pop() if len(kinds) == 1 else frozenset(kinds)
    if is_typeddict(kind):
        return frozenset((name, shape(each)) for name, each in get_type_hints(kind).items())
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return frozenset((name, shape(field.annotation)) for name, field in kind.model_fields.items())
    if origin in (list, Sequence):
        return ("array", *map(shape, arguments))
    if origin in (dict, Mapping):
        return ("object", *map(shape, arguments))
    return (origin, frozenset(arguments)) if origin is Literal else kind


def settings_module() -> str:
    """The text of broadcaster/settings/options.py."""
    fields = {name: field.annotation for name, field in Settings.model_fields.items() if name not in NOT_BY_KEYWORD}
    rows = {name: f"    {name}: {keyword_type(kind)}\n" for name, kind in fields.items()}
    own = rows.pop(OF_PUBLISHER)
    return HEAD + "".join(rows.values()) + TAIL + own


def keyword_type(kind: Any) -> str:
    """What a keyword may be that becomes a setting of this type."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return keyword_type(arguments[0])
    if origin in (Union, UnionType):
        return " | ".join(dict.fromkeys(map(keyword_type, arguments)))
    if origin is Literal:
        return f"Literal[{', '.join(map(repr, arguments))}]".replace("'", '"')
    if origin is dict:
        return f"Mapping[{', '.join(map(keyword_type, arguments))}]"
    if origin in (list, tuple):
        return f"Sequence[{keyword_type(arguments[0])}]"
    if kind is SecretStr:
        return "str"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "Mapping[str, Any]"
    return "None" if kind is NoneType else str(kind.__name__)


if __name__ == "__main__":
    print(settings_module(), end="")
