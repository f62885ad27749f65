"""A text that grows piece by piece, is joined when it is read, and is cheap to fork."""

from __future__ import annotations

from typing import TypeAlias

_Chain: TypeAlias = "tuple[_Chain | None, str]"
"""A text, and what stands before it."""


class Pieces:
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

    def fork(self) -> Pieces:
        """An independent copy of the text."""
        if self._pieces:
            self._shared, self._pieces = (self._shared, "".join(self._pieces)), []
        fork = Pieces()
        fork._shared = self._shared
        return fork
