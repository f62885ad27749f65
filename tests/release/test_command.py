"""``make release``: what it refuses, what it leaves as it was, and what it prints at the end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hatch_build import with_whole_links
from tests.guards import audit
from tests.guards.audit import Audit
from tests.release.__main__ import OPTIONAL, REQUIRED, Refused, check_audit, main
from tests.release.building import ROOT
from tests.release.checks import PLACES, Checkout, faults

VERSION = "1.2.3"
LOG = f"# Changelog\n\n## Unreleased\n\n## {VERSION} - 2026-11-24\n\n### Added\n\n- A thing.\n"


def commit(checkout: Checkout) -> None:
    checkout.git("add", "--all")
    checkout.git("-c", "user.name=A", "-c", "user.email=a@example.com", "commit", "-q", "-m", "Change a thing")
    checkout.git("push", "-q", "origin", "main")


def write(root: Path, version: str) -> None:
    """Every file that has the version, in its form."""
    for name, pattern in PLACES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        line = pattern.removeprefix("^").removesuffix("$").replace(" *", "  ").replace("\\.", ".")
        path.write_text(line.replace("(.+)", version).replace(r"(\S+)", version) + "\n")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A project that may be published, and its origin."""
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", tmp_path / "origin"], check=True)
    subprocess.run(["git", "clone", "-q", tmp_path / "origin", tmp_path / "clone"], check=True, capture_output=True)
    checkout = Checkout(tmp_path / "clone")
    checkout.git("symbolic-ref", "HEAD", "refs/heads/main")
    write(checkout.root, VERSION)
    (checkout.root / "CHANGELOG.md").write_text(LOG)
    commit(checkout)
    return checkout


def test_a_clean_checkout_with_its_version_and_its_changes_may_be_published_repeatedly(checkout: Checkout) -> None:
    before = checkout.state()
    assert faults(checkout, VERSION) == []
    checkout.git("tag", f"v{VERSION}")
    assert faults(checkout, VERSION) == []
    assert checkout.state() == before


@pytest.mark.parametrize("version", ["", "1.2", "v1.2.3", "1.2.3rc1", "1.2.3\n"])
def test_another_form_of_version_is_refused(checkout: Checkout, version: str) -> None:
    (fault,) = faults(checkout, version)
    assert fault == f"{version!r} is not a version: name it as 1.2.3"


@pytest.mark.parametrize("name", PLACES)
def test_a_file_with_another_version_is_named(checkout: Checkout, name: str) -> None:
    path = checkout.root / name
    path.write_text(path.read_text().replace(VERSION, "1.2.2"))
    commit(checkout)
    assert faults(checkout, VERSION) == [f"{name} has the version 1.2.2: write {VERSION}"]
    path.write_text("nothing\n")
    commit(checkout)
    assert faults(checkout, VERSION) == [f"{name} has the version nowhere: write {VERSION}"]


def test_the_files_of_this_checkout_have_one_version() -> None:
    found = faults(Checkout(ROOT), "999.0.0")
    assert {
        fault.partition(" has the version ")[2].partition(":")[0] for fault in found if " has the ver" in fault
    } == {_version_of_this_checkout()}


def _version_of_this_checkout() -> str:
    return (ROOT / "broadcaster/__init__.py").read_text("utf-8").partition('__version__ = "')[2].partition('"')[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("# Changelog\n\n## Unreleased\n", "has no section of 1.2.3"),
        ("# Changelog\n\n## 1.2.3\n\n- A thing.\n", "has no date"),
        ("# Changelog\n\n## 1.2.3 - 2026-11-24\n\n## 1.2.2 - 2026-11-01\n\n- A thing.\n", "is empty"),
        (LOG.replace("## Unreleased\n", "## Unreleased\n\n- Another.\n"), "has unreleased changes"),
    ],
)
def test_a_changelog_that_does_not_describe_the_version_is_refused(checkout: Checkout, text: str, fault: str) -> None:
    (checkout.root / "CHANGELOG.md").write_text(text)
    commit(checkout)
    (found,) = faults(checkout, VERSION)
    assert fault in found


def test_a_checkout_with_changes_or_behind_its_origin_is_refused(checkout: Checkout) -> None:
    (checkout.root / "new.txt").write_text("new")
    (found,) = faults(checkout, VERSION)
    assert found == "the checkout has changes: commit them or take them back\n?? new.txt"
    commit(checkout)
    checkout.git("reset", "-q", "--hard", "HEAD~1")
    (found,) = faults(checkout, VERSION)
    assert "pull or push first" in found


def test_another_branch_and_a_tag_of_another_commit_are_refused(checkout: Checkout) -> None:
    checkout.git("tag", f"v{VERSION}")
    (checkout.root / "new.txt").write_text("new")
    commit(checkout)
    checkout.git("switch", "-q", "-c", "other")
    assert faults(checkout, VERSION) == [
        "the branch is other: git switch main",
        f"the tag v{VERSION} is on another commit: choose the next version",
    ]


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://github.com/owner/name.git", "owner/name"),
        ("git@github.com:owner/some.name", "owner/some.name"),
        ("/work/main", ""),
        ("https://example.com/owner/name", ""),
    ],
)
def test_the_repository_is_that_of_an_origin_on_github(checkout: Checkout, address: str, name: str) -> None:
    checkout.git("remote", "set-url", "origin", address)
    assert checkout.repository() == name


@pytest.mark.parametrize(
    ("found", "mode", "reason"),
    [
        (Audit(["holed 1.0: PYSEC-1"], 5, 0), OPTIONAL, "known holes: make requirements UPGRADE=1"),
        (Audit([], 2, 3), REQUIRED, "not checked whether 3 pinned versions have known holes"),
        (Audit([], 2, 3), REQUIRED, "repeat the command with AUDIT=optional"),
        (Audit([], 2, 3), REQUIRED, f"repeat the command with {audit.OTHER_SERVICE}"),
    ],
)
def test_a_release_whose_packages_are_not_known_to_be_safe_is_refused_with_ways_to_go_on(
    found: Audit, mode: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "run", lambda _: found)
    with pytest.raises(Refused) as refused:
        check_audit(mode)
    assert reason in str(refused.value)


def test_an_audit_counts_what_it_could_not_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "run", lambda _: Audit([], 5, 0))
    assert check_audit(REQUIRED) == 0
    monkeypatch.setattr(audit, "run", lambda _: Audit([], 2, 3))
    assert check_audit(OPTIONAL) == 3


def test_a_release_without_a_public_repository_is_refused(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.release.__main__.ROOT", checkout.root)
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    assert main([VERSION]) == 2
    assert "REPOSITORY=owner/name" in capsys.readouterr().out


def test_an_origin_that_cannot_be_reached_is_named_with_the_error_of_git(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tests.release.__main__.ROOT", checkout.root)
    checkout.git("remote", "set-url", "origin", str(tmp_path / "moved"))
    assert main([VERSION, "--repository", "owner/name"]) == 1
    printed = capsys.readouterr().out
    assert "git ls-remote origin" in printed
    assert str(tmp_path / "moved") in printed


def test_what_a_release_starts_trusts_the_authorities_that_it_trusts_itself() -> None:
    program = "import os\nfrom tests.support.authorities import trusting\nassert trusting() == dict(os.environ)"
    environment = {"PATH": "/usr/bin:/bin", "SSL_CERT_FILE": "/some/bundle.pem"}
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, timeout=60)


def test_the_links_of_a_published_readme_lead_to_the_files_of_its_tag() -> None:
    text = (
        "[a](docs/a.md#b) ![p](docs/p.webp) [![p](p.svg)](b/) [c](#c) [d](https://e.org/f) <img alt='' src=\"g.png\">"
    )
    assert with_whole_links(text, "https://h/o/n", tag="v1") == (
        "[a](https://h/o/n/blob/v1/docs/a.md#b) ![p](https://h/o/n/raw/v1/docs/p.webp) "
        "[![p](https://h/o/n/raw/v1/p.svg)](https://h/o/n/blob/v1/b/) [c](#c) [d](https://e.org/f) "
        "<img alt='' src=\"https://h/o/n/raw/v1/g.png\">"
    )
