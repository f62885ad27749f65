"""A source of a text, as an annotation of the Responses API.

Annotations of that API pass as they are; those of chat completions lose their wrapping. Claude's citations belong to
their whole text: a web page is a ``url_citation`` of it, anything else a ``file_citation`` behind it.
"""

from __future__ import annotations

from typing import Any

from broadcaster.dialects.reading import Json


def annotation_of(cited: Json, *, text: str) -> Json:
    """The annotation; ``text`` is what has been written when it came."""
    match cited:
        case {"type": "url_citation", "url_citation": dict(wrapped)}:
            return {"start_index": 0, "end_index": len(text), "title": "", **wrapped, "type": "url_citation"}
        case {"type": str(type), "url": str(url)} if type != "url_citation" and "cited_text" in cited:
            title = _text(cited.get("title"))
            return {"type": "url_citation", "url": url, "title": title, "start_index": 0, "end_index": len(text)}
        case {"type": str(), "cited_text": _}:
            title = _text(cited.get("document_title") or cited.get("title"))
            file_id = _text(cited.get("file_id") or cited.get("source")) or title
            return {"type": "file_citation", "file_id": file_id, "filename": title, "index": len(text)}
        case _:
            return cited


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
