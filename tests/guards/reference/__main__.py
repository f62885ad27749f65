"""Write docs/reference/."""

from __future__ import annotations

from tests.guards.reference.render import pages
from tests.guards.source import ROOT

FOLDER = ROOT / "docs" / "reference"

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.md"):
        path.unlink()
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
    print(f"reference: {', '.join(sorted(pages()))} in {FOLDER.relative_to(ROOT)}")
