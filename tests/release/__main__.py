"""``make release VERSION=1.2.3``: check, build and try what would be published; then print how to publish it.

It uploads nothing and leaves the checkout as it is, so it can be repeated. What it builds is in build/release/VERSION.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from tests.guards import audit
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


REQUIRED: Final = "require"
OPTIONAL: Final = "optional"
NOT_AUDITED: Final = f"""\
it was not checked whether {{not_judged}} pinned versions have known holes: this package index knows no advisories.
To go on, do one of these:
  ask another service:  repeat the command with {audit.OTHER_SERVICE}
  use another index:    set pip's to one that serves advisories, and repeat the command
  leave it to the tag:  repeat the command with AUDIT={OPTIONAL}; the workflow of the pushed tag requires the audit"""


class Refused(Exception):
    """A version that may not be published, and why."""


def main(arguments: Sequence[str]) -> int:
    """0: it may be published; 1: it may not; 2: wrong arguments."""
    chosen = _parser().parse_args(arguments)
    checkout = Checkout(ROOT)
    try:
        repository = chosen.repository or checkout.repository()
        if not repository:
            print("release: the links of README need the public repository: make release REPOSITORY=owner/name …")
            return 2
        print(f"release: {chosen.version} of {repository}", flush=True)
        if found := faults(checkout, chosen.version):
            print("\n".join(f"release: {fault}" for fault in found))
            return 1
        _release(checkout, chosen.version, repository, is_whole=chosen.tests)
    except subprocess.CalledProcessError as error:
        command, reason = shlex.join(map(str, error.cmd)), (error.stderr or "").strip()
        print(f"release: `{command}` failed with {error.returncode}: {reason}")
        return 1
    except (Refused, subprocess.TimeoutExpired) as error:
        print(f"release: {error}")
        return 1
    return 0


def _release(checkout: Checkout, version: str, repository: str, *, is_whole: bool) -> None:
    before = checkout.state()
    unchecked = check_audit(os.environ.get("AUDIT", REQUIRED))
    artifacts = _build_and_try(version, repository, is_whole=is_whole)
    if (after := checkout.state()) != before:
        raise Refused(f"the checkout changed meanwhile\n{after}")
    for path in artifacts:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"release: {path.stat().st_size / 1024:6.0f} KiB  sha256 {digest}  {path.relative_to(ROOT)}")
    if unchecked:
        print(f"release: NOT checked: whether {unchecked} pinned versions have known holes")
    names = {name: path.relative_to(ROOT) for name, path in artifacts._asdict().items()}
    print(UPLOAD.format(version=version, **names))


def check_audit(mode: str) -> int:
    """Audit the pinned versions; returns how many could not be judged, which only the mode ``optional`` accepts."""
    try:
        found = audit.run(audit.PINNED)
    except RuntimeError as error:
        raise Refused(f"the audit of pinned packages failed: {error}") from error
    print("\n".join(f"audit: {line}" for line in audit.report(found)), flush=True)
    if found.holes:
        raise Refused("pinned versions have known holes: make requirements UPGRADE=1, then make check")
    if found.not_judged and mode != OPTIONAL:
        raise Refused(NOT_AUDITED.format(not_judged=found.not_judged))
    return found.not_judged


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("version", help="the version, as 1.2.3")
    parser.add_argument("--tests", action="store_true", help="run all of .ci/run, instead of `make check` alone")
    parser.add_argument("--repository", default=os.environ.get("GITHUB_REPOSITORY"), help="owner/name on GitHub")
    return parser


def _build_and_try(version: str, repository: str, *, is_whole: bool) -> Artifacts:
    _run(*([".ci/run"] if is_whole else ["make", "check"]), AUDIT=OPTIONAL)  # it was audited above
    folder = ROOT / "build" / "release" / version
    shutil.rmtree(folder, ignore_errors=True)
    print(f"release: building into {folder.relative_to(ROOT)}", flush=True)
    artifacts = build(folder, repository)
    print("release: trying each of them in fresh environments", flush=True)
    command = (sys.executable, "-m", "pytest", "-q", "-m", "thorough", "tests/release")
    _run(*command, RELEASE_DIST=str(folder), CI="true")
    return artifacts


def _run(*command: str, **environment: str) -> None:
    """What it prints is on the terminal. Raises Refused."""
    done = subprocess.run(command, cwd=ROOT, env={**trusting(), **environment}, check=False)
    if done.returncode:
        shown = shlex.join(command)
        raise Refused(
            f"`{shown}` failed with {done.returncode}: what it printed stands above; repeat it alone to mend it"
        )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
