"""A built page that would load something from another host fails the build. A hook of mkdocs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mkdocs.exceptions import PluginError

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

# What a browser loads by itself. A link that a reader follows is no load.
_LOADED: Final = re.compile(
    r"<(?:script|img|iframe|source|audio|video|embed|object)\b[^>]*?\b(?:src|srcset|data)=[\"']?(?P<source>(?:https?:)?//[^\"'\s>]+)"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|dns-prefetch|icon|modulepreload))[^>]*?\bhref=[\"']?"
    r"(?P<link>(?:https?:)?//[^\"'\s>]+)"
    r"|@import\s+[\"'(]*(?P<sheet>(?:https?:)?//[^\"')\s]+)|\burl\([\"']?(?P<url>(?:https?:)?//[^\"')\s]+)",
    re.IGNORECASE,
)


def on_post_build(*, config: MkDocsConfig) -> None:
    """Look through every page and style sheet."""
    found = [
        f"{path.relative_to(config.site_dir)}: {match[match.lastgroup or 0]}"
        for path in sorted(Path(config.site_dir).rglob("*"))
        if path.suffix in (".html", ".css")
        for match in _LOADED.finditer(path.read_text("utf-8"))
    ]
    if found:
        raise PluginError("the site would load from other hosts:\n" + "\n".join(found))
