"""``make release VERSION=1.2.3``: check, build and try what would be published; then print how to publish it.

It uploads nothing and leaves the checkout as it is, so it can be repeated. What it builds is in build/release/VERSION.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from tests.release.building import ROOT, Artifacts, build
from tests.release.checks import Checkout, faults
from tests.support.authorities import trusting

UPLOAD: Final = """
Nothing was uploaded. To publish {version}, push its tag: .github/workflows/release.yml builds the wheels for every
platform, tries them, and uploads when the environment `release` is approved.

    git tag --sign v{version} --message 'broadcaster {version}'
    git push origin v{version}

By hand, without the wheels of other platforms:

    .venv-release/bin/twine upload {sdist} {pure_wheel}
    npm publish ./{npm}
"""


def main(arguments: Sequence[str]) -> int:
    """0: it may be published; 1: it may not; 2: wrong arguments."""
    chosen = _parser().parse_args(arguments)
    checkout = Checkout(ROOT)
    repository = chosen.repository or checkout.repository()
    if not repository:
        print("release: the links of README need the public repository: make release REPOSITORY=owner/name …")
        return 2
    print(f"release: {chosen.version} of {repository}")
    if found := faults(checkout, chosen.version):
        print("\n".join(f"release: {fault}" for fault in found))
        return 1
    before = checkout.state()
    try:
        artifacts = _build_and_try(chosen.version, repository, is_whole=chosen.tests)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"release: {error}")
        return 1
    if (after := checkout.state()) != before:
        print(f"release: the checkout changed meanwhile\n{after}")
        return 1
    for path in artifacts:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"release: {path.stat().st_size / 1024:6.0f} KiB  sha256 {digest}  {path.relative_to(ROOT)}")
    names = {name: path.relative_to(ROOT) for name, path in artifacts._asdict().items()}
    print(UPLOAD.format(version=chosen.version, **names))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("version", help="the version, as 1.2.3")
    parser.add_argument("--tests", action="store_true", help="run all of .ci/run, instead of `make check` alone")
    parser.add_argument("--repository", default=os.environ.get("GITHUB_REPOSITORY"), help="owner/name on GitHub")
    return parser


def _build_and_try(version: str, repository: str, *, is_whole: bool) -> Artifacts:
    _run(*([".ci/run"] if is_whole else ["make", "check"]), AUDIT=os.environ.get("AUDIT", "require"))
    folder = ROOT / "build" / "release" / version
    shutil.rmtree(folder, ignore_errors=True)
    print(f"release: building into {folder.relative_to(ROOT)}", flush=True)
    artifacts = build(folder, repository)
    print("release: trying each of them in fresh environments", flush=True)
    command = (sys.executable, "-m", "pytest", "-q", "-m", "thorough", "tests/release")
    _run(*command, RELEASE_DIST=str(folder), CI="true")
    return artifacts


def _run(*command: str, **environment: str) -> None:
    """Raises CalledProcessError; what it prints is on the terminal."""
    subprocess.run(command, cwd=ROOT, env={**trusting(), **environment}, check=True)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
