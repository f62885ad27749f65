"""What must be true of a checkout before a version of it is published.

``python -m tests.release.checks 1.2.3`` looks at its files alone, as the workflow of a pushed tag does.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BRANCH: Final = "main"
REMOTE: Final = "origin"
# Both package indexes order such versions alike; their forms of pre-releases differ.
VERSION: Final = re.compile(r"\d+\.\d+\.\d+")
PLACES: Final = {
    "broadcaster/__init__.py": r'^__version__ = "(.+)"$',
    "clients/js/package.json": r'^  "version": "(.+)",$',
    "docker-compose.yml": r"^ *image: broadcaster:(\S+)$",
    "deploy/kubernetes/base/front-end.yaml": r"^ *image: broadcaster:(\S+)$",
    "deploy/kubernetes/base/worker.yaml": r"^ *image: broadcaster:(\S+)$",
    "deploy/kubernetes/overlays/example/kustomization.yaml": r"^ *newTag: (\S+)$",
    "docs/javascript.md": r"llm-broadcaster-(\S+)\.tgz",
    "docs/deployment.md": r"registry\.example\.com/broadcaster:(\S+)",
}
"""File → where it has the version. The first one is what the Python packages are called."""
_ON_GITHUB: Final = re.compile(r"github\.com[:/]([\w.-]+/[\w.-]+?)(?:\.git)?/?$")


@dataclass(frozen=True)
class Checkout:
    """A folder under git."""

    root: Path

    def git(self, *arguments: str) -> str:
        """What git prints. Raises CalledProcessError."""
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def state(self) -> str:
        """Everything that differs from the commit, and the commit."""
        return self.git("rev-parse", "HEAD") + "\n" + self.git("status", "--porcelain")

    def repository(self) -> str:
        """``owner/name`` of the remote, if it is on GitHub; else empty."""
        if REMOTE not in self.git("remote").split():
            return ""
        found = _ON_GITHUB.search(self.git("remote", "get-url", REMOTE))
        return found[1] if found else ""


def faults(checkout: Checkout, version: str) -> list[str]:
    """Why this version must not be published from here, each with its remedy; empty: it may."""
    if not VERSION.fullmatch(version):
        return [f"{version!r} is not a version: name it as 1.2.3"]
    return [*_faults_of_git(checkout, version), *faults_of_files(checkout.root, version)]


def faults_of_files(root: Path, version: str) -> list[str]:
    """Those of the files, whatever git says."""
    return [*_faults_of_versions(root, version), *_faults_of_log(root, version)]


def _faults_of_git(checkout: Checkout, version: str) -> Iterator[str]:
    if (branch := checkout.git("rev-parse", "--abbrev-ref", "HEAD")) != BRANCH:
        yield f"the branch is {branch}: git switch {BRANCH}"
    if changed := checkout.git("status", "--porcelain"):
        yield f"the checkout has changes: commit them or take them back\n{changed}"
    head = checkout.git("rev-parse", "HEAD")
    if REMOTE not in checkout.git("remote").split():
        yield f"there is no remote {REMOTE}: git remote add {REMOTE} URL"
    elif (theirs := checkout.git("ls-remote", REMOTE, f"refs/heads/{BRANCH}").partition("\t")[0]) != head:
        yield f"{REMOTE}/{BRANCH} is at {theirs[:12] or 'nothing'} and the checkout at {head[:12]}: pull or push first"
    tag = f"v{version}"
    if tag in checkout.git("tag", "--list", tag).split() and checkout.git("rev-parse", f"{tag}^{{commit}}") != head:
        yield f"the tag {tag} is on another commit: choose the next version"


def _faults_of_versions(root: Path, version: str) -> Iterator[str]:
    for name, pattern in PLACES.items():
        found = set(re.findall(pattern, (root / name).read_text("utf-8"), re.MULTILINE))
        if found != {version}:
            yield f"{name} has the version {', '.join(sorted(found)) or 'nowhere'}: write {version}"


def _faults_of_log(root: Path, version: str) -> Iterator[str]:
    text = (root / "CHANGELOG.md").read_text("utf-8")
    sections = dict(re.findall(r"^## (.+)\n((?:(?!## ).*\n?)*)", text, re.MULTILINE))
    titles = [title for title in sections if title.split()[0].strip("[]") == version]
    if not titles:
        yield f"CHANGELOG.md has no section of {version}: rename Unreleased to '{version} - YYYY-MM-DD'"
    for title in titles:
        if not re.fullmatch(rf"\[?{re.escape(version)}\]? [-–] \d{{4}}-\d\d-\d\d", title):
            yield f"the section {title!r} of CHANGELOG.md has no date: write '{version} - YYYY-MM-DD'"
        if not sections[title].strip():
            yield f"the section {title!r} of CHANGELOG.md is empty: write what changes for users"
    if sections.get("Unreleased", "").strip():
        yield f"CHANGELOG.md has unreleased changes: move them to the section of {version}"


if __name__ == "__main__":
    found = faults_of_files(Path(), sys.argv[1])
    print("\n".join(found))
    raise SystemExit(bool(found))
