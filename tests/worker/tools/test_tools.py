"""Functions as tools: what the model gets of them, and what they are called with."""

from __future__ import annotations

import datetime as dt
import math
import sys
from dataclasses import dataclass
from enum import Enum
from types import ModuleType
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from broadcaster.core import events as ev
from broadcaster.errors import SetupError
from worker.tools import BadArguments, BadOutput, Tool, ToolBox, ToolContext, as_json, load_tools, tool

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


class Unit(Enum):
    """Of a temperature."""

    CELSIUS = "celsius"
    KELVIN = "kelvin"


class Place(BaseModel):
    """Where."""

    city: str
    country: str = "FR"


def forecast(
    place: Place,
    on: dt.date,
    unit: Unit = Unit.CELSIUS,
    hours: Annotated[list[int], Field(description="of the day", max_length=2)] = [12],  # noqa: B006
    *,
    json: bool = False,
    context: ToolContext | None = None,
) -> str:
    """How the weather will be.

    Of one day.
    """
    return "fair"


def context_of(emitted: list[ev.Event] | None = None) -> ToolContext:
    tell = (emitted if emitted is not None else []).append
    return ToolContext(
        generation_id="gen_1", tenant="t", metadata={}, step=2, index=1, tool_call_id="call_1", tell=tell
    )


def test_the_signature_is_the_schema_and_the_docstring_the_description():
    definition = tool(forecast).definition
    assert definition["name"] == "forecast"
    assert definition["description"] == "How the weather will be.\n\nOf one day."
    schema = definition["input_schema"]
    assert schema["type"] == "object"
    assert schema["required"] == ["place", "on"]
    assert set(schema["properties"]) == {"place", "on", "unit", "hours", "json"}
    assert schema["properties"]["on"]["format"] == "date"
    assert schema["properties"]["hours"]["description"] == "of the day"
    assert schema["properties"]["json"]["default"] is False
    assert schema["additionalProperties"] is False


def test_a_function_is_called_with_the_types_of_its_signature():
    given_context = context_of()
    bound = tool(forecast).bind({"place": {"city": "Paris"}, "on": "2026-01-02", "hours": [6]}, given_context)
    assert bound == {
        "place": Place(city="Paris"),
        "on": dt.date(2026, 1, 2),
        "unit": Unit.CELSIUS,
        "hours": [6],
        "json": False,
        "context": given_context,
    }


@pytest.mark.parametrize(
    ("input", "message"),
    [
        ({}, "place: Field required; on: Field required"),
        ({"place": {"city": "Paris"}, "on": "secret"}, "on: "),
        ({"place": {"city": "Paris"}, "on": "2026-01-02", "hours": [1, 2, 3]}, "hours: "),
        ({"place": {"city": 7}, "on": "2026-01-02"}, "place.city: "),
        ({"place": {"city": "Paris"}, "on": "2026-01-02", "extra": "secret"}, "extra: "),
        (["Paris"], "the arguments: Input should be an object"),
        (None, "the arguments: Input should be an object"),
    ],
)
def test_invalid_arguments_are_reported_by_name_and_without_their_values(input: Any, message: str):
    with pytest.raises(BadArguments) as caught:
        tool(forecast).bind(input, context_of())
    assert str(caught.value).startswith("the arguments do not fit: ")
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


def take_two(count: int, name: str = "x") -> None:
    """Takes two."""


TWO = tool(take_two)


@given(JSON | st.fixed_dictionaries({"count": JSON}, optional={"name": JSON}))
def test_any_input_of_a_model_fits_or_is_refused_with_a_text(input: Any):
    message = None
    try:
        bound = TWO.bind(input, context_of())
    except BadArguments as error:
        message = str(error)
    if message is None:
        assert {name: type(value) for name, value in bound.items()} == {"count": int, "name": str}
    else:
        assert 0 < len(message) <= 2000


@given(st.lists(st.sampled_from(["json", "copy", "schema", "model_config", "_id", "self", "class_"]), unique=True))
def test_a_parameter_may_be_called_what_a_field_of_a_model_may_not(names: list[str]):
    space: dict[str, Any] = {}
    exec(f"def made({', '.join(f'{name}: int' for name in names)}): ...", space)
    known = tool(space["made"])
    assert set(known.definition["input_schema"]["properties"]) == set(names)
    assert known.bind(dict.fromkeys(names, 1), context_of()) == dict.fromkeys(names, 1)


def test_a_call_knows_its_key_and_reports_under_its_id():
    emitted: list[ev.Event] = []
    context = context_of(emitted)
    assert context.idempotency_key == "gen_1:2:1"
    context.progress_nowait({"done": dt.timedelta(seconds=1)})
    assert emitted == [ev.DataEvent(type="data-progress", id="call_1", data={"done": "PT1S"})]
    with pytest.raises(BadOutput):
        context.progress_nowait(object())


@dataclass
class Sky:
    """What a tool may return."""

    colour: str
    seen: dt.datetime


def test_models_dataclasses_dates_and_sets_are_json():
    seen = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    assert as_json({"sky": Sky("blue", seen), "place": Place(city="Paris"), "tags": {1}, "nan": math.nan}) == {
        "sky": {"colour": "blue", "seen": "2026-01-02T00:00:00Z"},
        "place": {"city": "Paris", "country": "FR"},
        "tags": [1],
        "nan": None,
    }


@pytest.mark.parametrize("value", [object(), "\ud800", b"\xff", {"a": lambda: 1}])
def test_an_output_that_is_not_json_is_refused(value: Any):
    with pytest.raises(BadOutput):
        as_json(value)


@given(JSON)
def test_json_stays_what_it_is(value: Any):
    assert as_json(value) == value


def test_a_box_registers_by_decorator_and_leaves_the_function_as_it_is():
    box = ToolBox(tool(forecast))

    @box.tool
    def plain(x: int) -> int:
        """Plain."""
        return x + 1

    @box.tool(name="other", timeout_s=3, repeatable=True)
    async def named(x: int) -> int:
        """Named."""
        return x

    assert plain(1) == 2
    assert [(each.name, each.is_async, each.repeatable, each.timeout_s) for each in box] == [
        ("forecast", False, False, None),
        ("plain", False, False, None),
        ("other", True, True, 3),
    ]
    assert len(box) == 3
    with pytest.raises(ValueError, match="two tools named 'other'"):
        box.tool(name="other")(plain)


def generator(x: int) -> Any:
    """Yields."""
    yield x


async def async_generator(x: int) -> Any:
    """Yields."""
    yield x


def untyped(x) -> None:
    """Has no type."""


def starred(*x: int) -> None:
    """Takes any number."""


def positional(x: int, /) -> None:
    """Takes no names."""


@pytest.mark.parametrize("function", [generator, async_generator, untyped, starred, positional])
def test_a_function_that_cannot_be_called_by_name_and_return_is_refused(function: Any):
    with pytest.raises(TypeError, match=f"the tool {function.__name__} "):
        tool(function)


@pytest.mark.parametrize(
    "options", [{"name": "with space"}, {"name": "x" * 65}, {"name": "naïve"}, {"timeout_s": 0.0}, {"timeout_s": -1.0}]
)
def test_a_name_that_providers_refuse_and_a_timeout_that_is_none_are_refused(options: dict[str, Any]):
    with pytest.raises(ValueError, match="tool"):
        tool(forecast, **options)


def test_a_validator_of_the_tools_own_reports_to_the_model():
    class Even(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def _is_even(cls, n: int) -> int:
            if n % 2:
                raise ValueError("must be even")
            return n

    def take(x: Even) -> None:
        """Takes an even one."""

    take.__annotations__["x"] = Even  # local to this test: its name cannot be looked up
    with pytest.raises(BadArguments, match="must be even"):
        tool(take).bind({"x": {"n": 3}}, context_of())


def test_the_box_of_a_setting_is_loaded(monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("some_tools")
    module.box = ToolBox(tool(forecast))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "some_tools", module)
    assert isinstance(load_tools("some_tools:box").get("forecast"), Tool)
    for place, fault in [
        ("some_tools", "must name a box"),
        (":box", "must name a box"),
        ("some_tools:nothing", "has no worker.tools.ToolBox named 'nothing'"),
        ("no.such:box", "no.such cannot be imported: ModuleNotFoundError"),
    ]:
        with pytest.raises(SetupError, match=fault):
            load_tools(place)
