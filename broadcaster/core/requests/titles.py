"""The prompt of a request (the text of its last user message), and a title made of it for lists. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

# Enough to recognise an answer in a list.
TITLE_CHARS: Final = 120


def prompt_of(request: Mapping[str, Any]) -> str:
    """The text of the last user message; empty when it has none."""
    contents = [message["content"] for message in request.get("messages", ()) if message.get("role") == "user"]
    content = contents[-1] if contents else ""
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content if isinstance(part.get("text"), str))


def title_of(request: Mapping[str, Any]) -> str:
    """The beginning of that text in one line of at most ``TITLE_CHARS`` characters."""
    title = " ".join(prompt_of(request)[: 4 * TITLE_CHARS].split())
    return title if len(title) <= TITLE_CHARS else title[: TITLE_CHARS - 1].rstrip() + "…"
