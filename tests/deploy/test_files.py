"""Every deployment file is accepted by the tool that reads it, in the strictest way that tool has."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import kubernetes_validate
import pytest

from tests.deploy.files import DEPLOY, ROOT, kubernetes, kustomized
from tests.support.servers.programs import find_program

INSTALL = "it is in .venv after `make install`"
CADDY = "get it with `make deploytools`, or install it, e.g. apt install caddy"
SYSTEMD = "it comes with systemd: `make deploytools`, or apt install systemd"
# What is left is the network, which they are for, and a root file system of their own, which they do not need.
MOST_EXPOSED = 1.5


def accepted(*command: str | Path, **environment: str) -> str:
    """What the command prints; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment or None)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    accepted(find_program("hadolint", remedy=INSTALL), ROOT / "Dockerfile")


def test_the_compose_files_are_such_by_the_specifications_schema() -> None:
    tool = find_program("check-jsonschema", remedy=INSTALL)
    files = sorted(ROOT.glob("docker-compose*.yml"))
    assert len(files) == 3
    accepted(tool, "--builtin-schema", "vendor.compose-spec", *files)


def test_kustomize_builds_resources_that_kubernetes_knows_to_the_last_field(overlay: Path) -> None:
    resources = kubernetes(overlay)
    assert len(resources) > 15
    for each in resources:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_kustomize_refuses_an_overlay_whose_secrets_were_not_made() -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        kustomized(DEPLOY / "kubernetes" / "overlays" / "example")
    assert "secrets/" in refused.value.stderr


def test_no_file_that_would_hold_a_secret_can_be_committed() -> None:
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing can be committed")
    secret = [
        ROOT / ".env",
        *(each.with_suffix("") for each in DEPLOY.rglob("*.env.example")),
        DEPLOY / "kubernetes" / "overlays" / "ours" / "secrets" / "redis.env",
        DEPLOY / "nginx" / "certificate" / "privkey.pem",
    ]
    ignored = subprocess.run([git, "check-ignore", *secret], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.split() == [str(each) for each in secret]
    assert len(secret) == 13
    # ... and what is not filled in yet is not ignored.
    examples = [ROOT / ".env.example", *DEPLOY.rglob("*.example")]
    kept = subprocess.run([git, "check-ignore", *examples], cwd=ROOT, capture_output=True, text=True, check=False)
    assert kept.stdout == ""


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as instances, of a program that is there."""
    for template, instance in (("serve", "8001"), ("worker", "1")):
        text = (DEPLOY / "systemd" / f"broadcaster-{template}@.service").read_text()
        assert "/opt/broadcaster/bin/broadcaster" in text
        unit = tmp_path / f"broadcaster-{template}@{instance}.service"
        unit.write_text(text.replace("/opt/broadcaster/bin/broadcaster", "/bin/true"))
    for name in ("broadcaster-valkey.service", "broadcaster.target"):
        shutil.copy(DEPLOY / "systemd" / name, tmp_path)
    return sorted(tmp_path.iterdir())


def test_systemd_knows_every_line_of_the_units(units: list[Path]) -> None:
    # What it does not know it warns of, and goes on: it may print nothing at all.
    assert accepted(find_program("systemd-analyze", remedy=SYSTEMD), "verify", *units) == ""


def test_systemd_starts_a_process_however_often_it_has_ended(units: list[Path]) -> None:
    ours = [each for each in units if "@" in each.name]
    assert len(ours) == 2
    for each in ours:
        assert {"StartLimitIntervalSec=0", "Restart=always"} <= set(each.read_text().splitlines())


def test_systemd_finds_little_that_the_units_could_do_to_the_machine(units: list[Path]) -> None:
    tool = find_program("systemd-analyze", remedy=SYSTEMD)
    for unit in units:
        if unit.suffix == ".service":
            result = accepted(tool, "security", "--offline=true", "--no-pager", unit)
            exposure = result[result.index("Overall exposure") :].split()
            print(" ".join(exposure))
            assert float(exposure[exposure.index("OK") - 1]) <= MOST_EXPOSED


def test_caddy_accepts_its_file(tmp_path: Path) -> None:
    result = accepted(
        find_program("caddy", remedy=CADDY),
        *("validate", "--adapter", "caddyfile", "--config", DEPLOY / "caddy" / "Caddyfile"),
        HOME=str(tmp_path),
        SITE="broadcaster.example.com",
        FRONT_ENDS="127.0.0.1:8001 127.0.0.1:8002",
    )
    assert "Valid configuration" in result


def test_the_start_script_is_plain_sh() -> None:
    accepted("/bin/sh", "-n", DEPLOY / "redis" / "start.sh")
