"""The former form of the router, which let every user change every stream: refused with what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

_P = ParamSpec("_P")
_R = TypeVar("_R")

_FORMER: Final = frozenset({"auth", "write_auth"})
_INSTEAD: Final = """\
router(auth=…) let every signed-in user read, change and delete every stream, and is gone. Write what may be watched:

    def can_watch(stream_id: str, user: Annotated[User, Depends(signed_in)]) -> bool:
        return user.owns(stream_id)  # your own rule

    app.include_router(broadcaster.router(can_watch=can_watch), prefix="/llm")

Listing, generating, stopping, writing and deleting are off; each has a guard of its own: can_list, can_generate,
can_stop, can_write, can_delete (docs/library.md)."""


def refuse_former_form(create: Callable[_P, _R]) -> Callable[_P, _R]:
    """Refuse former arguments of ``create`` with a TypeError that names their replacement."""

    @wraps(create)
    def checked(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        if _FORMER & kwargs.keys():
            raise TypeError(_INSTEAD)
        return create(*args, **kwargs)

    return checked
