"""Files outside docs/ that a page links to (README, examples, sources) become pages of the site, below /repository.

So the site is complete without a network, and its links are those that GitHub follows. A hook of mkdocs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mkdocs.structure.files import File, Files, InclusionLevel

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).resolve().parents[2]
DOCS: Final = ROOT / "docs"
FOLDER: Final = "repository"
_LINK: Final = re.compile(r"(?P<head>\]\()(?P<target>(?![a-z]+:|#|/)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
_FENCED: Final = re.compile(r"^(```|~~~).*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_LANGUAGES: Final = {".py": "python", ".yml": "yaml", ".ts": "ts", ".tsx": "tsx", ".html": "html", ".ipynb": "json"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file that is linked to, and for those that such a page links to."""
    waiting = [path for file in files.documentation_pages() for path in _linked(DOCS / file.src_uri)]
    added: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path not in added:
            added.add(path)
            files.append(_page_of(path, config))
            waiting += _linked(path) if path.suffix == ".md" else []
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that leave docs/ into links to the pages of this hook, and let Markdown inside <details> be read."""
    here = _source_of(page.file)
    if here is None:
        return markdown

    def link(match: re.Match[str]) -> str:
        target = _existing(here, match["target"])
        if target is None:
            return match[0]
        uri = os.path.relpath(_uri_of(target), os.path.dirname(page.file.src_uri))
        return f"{match['head']}{uri}{match['anchor'] or ''})"

    return _outside_of_fences(markdown, link).replace("<details>", "<details markdown>")


def _linked(page: Path) -> list[Path]:
    """The files outside docs/ that this page links to."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    found = (_existing(page, match["target"]) for match in _LINK.finditer(text))
    return [path for path in found if path is not None and not path.is_relative_to(DOCS)]


def _existing(page: Path, target: str) -> Path | None:
    """The file of the repository that a link of this page names; a folder's is its README."""
    path = (page.parent / target).resolve()
    if path.is_dir():
        path /= "README.md"
    return path if path.is_file() and path.is_relative_to(ROOT) else None


def _uri_of(path: Path) -> str:
    """The place of a file's page below docs/."""
    if path.is_relative_to(DOCS):
        return str(path.relative_to(DOCS))
    uri = f"{FOLDER}/{path.relative_to(ROOT)}"
    return uri if path.suffix == ".md" else f"{uri}.md"


def _page_of(path: Path, config: MkDocsConfig) -> File:
    content = path.read_text("utf-8")
    if path.suffix != ".md":
        language = _LANGUAGES.get(path.suffix, "text")
        content = f"# {path.relative_to(ROOT)}\n\n~~~~{language}\n{content}\n~~~~\n"
    return File.generated(config, _uri_of(path), content=content, inclusion=InclusionLevel.NOT_IN_NAV)


def _source_of(file: File) -> Path | None:
    """Where the Markdown of this page lies; None: it is a file of code that has no links."""
    uri: str = file.src_uri
    if not uri.startswith(f"{FOLDER}/"):
        return DOCS / uri
    path = ROOT / uri.removeprefix(f"{FOLDER}/")
    return path if path.is_file() else None


def _outside_of_fences(markdown: str, link: Callable[[re.Match[str]], str]) -> str:
    return "".join(part if is_fence else _LINK.sub(link, part) for is_fence, part in _parts(markdown))


def _parts(markdown: str) -> Iterator[tuple[bool, str]]:
    """The text between fences, and the fences."""
    at = 0
    for fence in _FENCED.finditer(markdown):
        yield False, markdown[at : fence.start()]
        yield True, fence[0]
        at = fence.end()
    yield False, markdown[at:]
