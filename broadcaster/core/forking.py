"""State that is cheap to fork, and a text that grows in it.

Rules
1. A fork and its origin change independently. They share what never changes: strings, frozen objects, JSON.
2. A forkable object is forked field by field. In one fork it is forked once, however many fields hold it.
3. A list, dict or set in a field is copied, with forks of the forkable objects in it. Containers inside such a one are
   shared: code replaces them, and never changes them in place.
4. An object that cannot change any more (``is_fixed``) is shared.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, Self, TypeAlias

_Chain: TypeAlias = "tuple[_Chain | None, str]"
"""A text, and what stands before it."""

_SHARED: Final = frozenset({str, int, bool, bytes, type(None)})
"""The types of most values, which need no closer look."""


class Forkable:
    """See the module's rules."""

    __slots__ = ()

    _names: ClassVar[tuple[str, ...]] = ()
    """The slots of the class and of its bases; empty where objects have a ``__dict__``."""

    def __init_subclass__(cls) -> None:
        cls._names = tuple(name for each in cls.__mro__ for name in vars(each).get("__slots__", ()))

    @property
    def is_fixed(self) -> bool:
        """Whether it cannot change any more."""
        return False

    def fork(self) -> Self:
        """An independent copy at the same place."""
        return self._forked({})

    def _forked(self, forks: dict[int, Any]) -> Self:
        """``forks``: what became of each object so far, by its ``id``."""
        if self.is_fixed:
            return self
        fork: Self | None = forks.get(id(self))
        if fork is None:
            fork = forks[id(self)] = object.__new__(type(self))
            for name in self._names or vars(self):
                value = getattr(self, name)
                setattr(fork, name, value if type(value) in _SHARED else _forked(value, forks))
        return fork


def _forked(value: Any, forks: dict[int, Any]) -> Any:
    """A field's value for the fork."""
    if isinstance(value, Forkable):
        return value._forked(forks)
    kind = type(value)
    if kind is list:
        return [each if type(each) in _SHARED else _held(each, forks) for each in value]
    if kind is dict:
        return {key: each if type(each) in _SHARED else _held(each, forks) for key, each in value.items()}
    return value.copy() if kind is set else _held(value, forks)


def _held(value: Any, forks: dict[int, Any]) -> Any:
    """What a container holds, for the fork."""
    if isinstance(value, Forkable):
        return value._forked(forks)
    return tuple(_held(each, forks) for each in value) if type(value) is tuple else value


class Pieces(Forkable):
    """A text that grows piece by piece and is joined when it is read; a fork shares what was there.

    A fork costs what was appended since the last one, however long the text is.
    """

    __slots__ = ("_pieces", "_shared")

    def __init__(self, text: str = "") -> None:
        self._shared: _Chain | None = None
        self._pieces = [text] if text else []

    def append(self, piece: str) -> None:
        """Add a piece at the end."""
        self._pieces.append(piece)

    @property
    def text(self) -> str:
        """The whole text."""
        if self._shared is not None or len(self._pieces) > 1:
            pieces, chain = self._pieces[::-1], self._shared
            while chain is not None:
                chain, piece = chain
                pieces.append(piece)
            self._shared, self._pieces = None, ["".join(reversed(pieces))]
        return self._pieces[0] if self._pieces else ""

    def _forked(self, forks: dict[int, Any]) -> Pieces:
        fork: Pieces | None = forks.get(id(self))
        if fork is None:
            if self._pieces:
                self._shared, self._pieces = (self._shared, "".join(self._pieces)), []
            fork = forks[id(self)] = Pieces()
            fork._shared = self._shared
        return fork
