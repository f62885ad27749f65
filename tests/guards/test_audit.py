"""The audit of pinned packages: a hole is red, and a version that was not judged never looks as if it were."""

import pytest

from tests.guards import audit
from tests.guards.audit import Audit, read_report

HOLE = {"id": "PYSEC-2026-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
REPORT = {
    "dependencies": [
        {"name": "fine", "version": "2.0", "vulns": []},
        {"name": "holed", "version": "1.0", "vulns": [HOLE, {**HOLE, "id": "PYSEC-2026-2", "fix_versions": []}]},
        {"name": "unknown", "skip_reason": "Dependency not found on PyPI and could not be audited: unknown (1)"},
    ],
    "fixes": [],
}


def test_a_report_names_each_hole_and_counts_what_was_not_judged() -> None:
    holes = ["holed 1.0: PYSEC-2026-1, fixed in ['1.1']", "holed 1.0: PYSEC-2026-2, fixed in no version"]
    assert read_report(REPORT) == Audit(holes, 2, 1)


@pytest.mark.parametrize(
    ("found", "required", "code"),
    [
        (Audit(["holed"], 5, 0), "", 1),
        (Audit([], 5, 0), "require", 0),
        (Audit([], 0, 5), "", 0),
        (Audit([], 4, 1), "require", 1),
    ],
)
def test_a_hole_fails_and_a_version_that_was_not_judged_fails_where_it_is_required(
    found: Audit, required: str, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "run", lambda _: found)
    monkeypatch.setenv("AUDIT", required)
    assert audit.main([]) == code
    assert ("NOT judged" in capsys.readouterr().out) == bool(found.not_judged)
