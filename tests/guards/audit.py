"""``python -m tests.guards.audit [REQUIREMENTS …]``: known holes in pinned packages, as `make check` looks for them.

pip-audit asks the package index for the advisories of each pinned version. The audit fails when a version has one. An
index that serves packages alone (a mirror) cannot answer: the audit then says how many versions were not judged, and
fails only with ``AUDIT=require``. A release requires it unless it is begun with ``AUDIT=optional``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = ("pip-audit", "--require-hashes", "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json")
LIMIT_S = 300
PINNED = ("requirements/runtime.txt", "requirements/dev.txt")
# pip-audit reads the variable itself.
OTHER_SERVICE = "PIP_AUDIT_VULNERABILITY_SERVICE=osv"


class Audit(NamedTuple):
    """What the index said: ``holes`` are lines `package version: advisory, fixed in …`."""

    holes: Sequence[str]
    judged: int
    not_judged: int


def read_report(report: Mapping[str, Any]) -> Audit:
    """The report of pip-audit."""
    packages = report["dependencies"]
    holes = [
        f"{package['name']} {package['version']}: {hole['id']}, fixed in {hole['fix_versions'] or 'no version'}"
        for package in packages
        for hole in package.get("vulns", ())
    ]
    not_judged = sum("skip_reason" in package for package in packages)
    return Audit(holes, len(packages) - not_judged, not_judged)


def run(requirements: Sequence[str]) -> Audit:
    """Audit these files. Raises RuntimeError when pip-audit prints no report."""
    program = Path(sys.executable).with_name(COMMAND[0])
    files = [part for path in requirements for part in ("-r", path)]
    done = subprocess.run([program, *COMMAND[1:], *files], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    try:
        return read_report(json.loads(done.stdout))
    except ValueError:
        raise RuntimeError(f"pip-audit ended with {done.returncode}: {done.stderr[-500:]}") from None


def report(audit: Audit) -> list[str]:
    """What was found, and how much could not be judged."""
    lines = [*audit.holes, f"{audit.judged} versions judged, {len(audit.holes)} holes"]
    if audit.not_judged:
        lines.append(f"{audit.not_judged} versions NOT judged: this package index knows no advisories")
    return lines


def main(requirements: Sequence[str]) -> int:
    """Print what was found; 1 for a hole, and for a version that was not judged if AUDIT=require."""
    audit = run(requirements or PINNED)
    print("\n".join(f"audit: {line}" for line in report(audit)))
    if not audit.not_judged or os.environ.get("AUDIT") != "require":
        return int(bool(audit.holes))
    print(f"audit: AUDIT=require wants them judged: set {OTHER_SERVICE}, or use an index with advisories")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
