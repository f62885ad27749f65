"""A text that grows piece by piece, is joined when it is read, and forks at no cost."""

from __future__ import annotations


class Pieces:
    """A text that grows piece by piece and is joined when it is read; a fork shares what was there."""

    __slots__ = ("_pieces",)

    def __init__(self, text: str = "") -> None:
        self._pieces = [text] if text else []

    def append(self, piece: str) -> None:
        """Add to its end."""
        self._pieces.append(piece)

    @property
    def text(self) -> str:
        """The whole."""
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def fork(self) -> Pieces:
        """Another one of the same text."""
        return Pieces(self.text)
