"""What the router takes for a guard: the mistakes that would grant too much fail when the router is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pytest
from fastapi import Cookie, Depends

from broadcaster import Broadcaster
from broadcaster.web.mount import create_router
from tests.support.apps.mounting import Mounted, every_caller, every_stream


def signed_in(user: Annotated[str, Cookie()] = "") -> str:
    return user


def takes_no_stream() -> bool:
    return True


def takes_a_stream(stream_id: str) -> bool:
    return True


def unannotated(request, stream_id: str) -> bool:
    return True


def takes_the_body(stream_id: str, body: dict[str, Any]) -> bool:
    return True


def with_a_local_dependency() -> Any:
    def local_user() -> str:
        return "ada"

    def guard(stream_id: str, user: Annotated[str, Depends(local_user)]) -> bool:
        return user == "ada"  # FastAPI would read ?user=ada

    return guard


MISUSES: Sequence[tuple[dict[str, Any], str]] = [
    ({"can_watch": signed_in}, r"can_watch: it does not take stream_id.*write def can_watch\(stream_id: str, user"),
    ({"can_watch": None}, "can_watch: a function is needed, not NoneType"),
    ({"can_watch": Depends(every_stream)}, "can_watch: a function is needed, not Depends"),
    ({"can_watch": every_stream, "can_write": takes_no_stream}, "can_write: it does not take stream_id"),
    ({"can_watch": every_stream, "can_list": takes_a_stream}, "can_list: there is no stream yet"),
    ({"can_watch": every_stream, "can_generate": takes_a_stream}, "can_generate: there is no stream yet"),
    ({"can_watch": unannotated}, "annotate its parameter, request: Request"),
    (
        {"can_watch": with_a_local_dependency()},
        r"can_watch: cannot resolve user: Annotated\[str, Depends\(local_user\)\]",
    ),
    ({"can_watch": takes_the_body}, "can_watch takes the body"),
    ({"can_watch": every_stream, "on_generate": takes_a_stream}, "never called without can_generate"),
    (
        {"can_watch": every_stream, "can_generate": every_caller, "on_generate": takes_no_stream},
        "on_generate: it does not take stream_id",
    ),
]


@pytest.mark.parametrize(("guards", "message"), MISUSES)
def test_an_argument_that_cannot_be_the_guard_is_refused_when_the_router_is_made(
    guards: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        Mounted(**guards)


@pytest.mark.parametrize("former", [{"auth": signed_in}, {"auth": None}, {"auth": signed_in, "write_auth": signed_in}])
def test_the_former_form_is_refused_with_what_to_write_instead(former: dict[str, Any]) -> None:
    for create in (Broadcaster.from_url("redis://127.0.0.1:1").router, create_router):
        with pytest.raises(TypeError) as refusal:
            create(**former)
        result = str(refusal.value)
        assert "broadcaster.router(can_watch=can_watch)" in result
        assert "def can_watch(stream_id: str, user: Annotated[User, Depends(signed_in)]) -> bool:" in result
