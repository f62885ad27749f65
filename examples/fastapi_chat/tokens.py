"""Our own token generator: where the stream of a model would be that this app calls by itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Final

# So slow that a reload in the middle is easy.
SECONDS_PER_WORD: Final = float(os.environ.get("SECONDS_PER_WORD", "0.1"))

_ANSWER: Final = (
    "You asked “{prompt}”, and I am only a list of words. But look what carries them: each one is appended to a log "
    "before you see it. Reload this page, open it in another tab, close the lid and come back: the answer goes on "
    "without you, and you get the rest of it, every word once."
)


async def answer(prompt: str) -> AsyncIterator[str]:
    """The words of an answer, as they come."""
    for word in _ANSWER.format(prompt=prompt).split(" "):
        await asyncio.sleep(SECONDS_PER_WORD)
        yield f"{word} "
