"""GitHub's workflows run commands that exist here, have no right that they do not need, and pin what they call."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.files import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PUBLISHING = {"publish-python", "publish-javascript"}


def read(name: str) -> dict[Any, Any]:
    found: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text("utf-8"))
    return found


def commands(workflow: dict[Any, Any]) -> list[str]:
    return [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]


def test_they_are_of_the_schema() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    command = [str(program), "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_and_names_its_version(path: Path) -> None:
    used = re.findall(r"^ +- uses: (.+)$", path.read_text("utf-8"), re.MULTILINE)
    assert used
    assert path.read_text("utf-8").count("uses:") == len(used)
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_only_what_a_person_has_approved_may_publish(path: Path) -> None:
    workflow = read(path.name)
    assert workflow["permissions"] == {"contents": "read"}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
    assert set(rights) <= PUBLISHING
    assert all(each == {"id-token": "write"} for each in rights.values())
    for name, job in workflow["jobs"].items():
        assert job.get("environment") == ("release" if name in rights else None), name
        assert "timeout-minutes" in job, name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_command_contains_text_of_an_event_and_no_secret_is_used(path: Path) -> None:
    assert not [command for command in commands(read(path.name)) if "${{" in command]
    assert "secrets." not in path.read_text("utf-8")
    for job in read(path.name)["jobs"].values():
        for step in job["steps"]:
            if "checkout@" in step.get("uses", ""):
                assert step["with"] == {"persist-credentials": False}


def test_ci_runs_what_contributors_run_and_builds_the_image() -> None:
    run = commands(read("ci.yml"))
    assert any(command.endswith(" .ci/run") for command in run)
    assert "docker build --tag broadcaster ." in run
    # PyYAML reads the word `on` as true.
    assert read("ci.yml")[True] == {"push": {"branches": ["main"]}, "pull_request": None}


def test_a_tag_is_built_tried_and_built_for_every_platform_before_anything_is_published() -> None:
    workflow = read("release.yml")
    assert workflow[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+"]}}
    jobs = workflow["jobs"]
    assert set(jobs) == {"build", "wheels", *PUBLISHING}
    assert all(jobs[name]["needs"] == ["build", "wheels"] for name in PUBLISHING)
    assert jobs["wheels"]["needs"] == "build"
    assert jobs["wheels"]["strategy"]["matrix"]["os"] == [
        "ubuntu-24.04",
        "ubuntu-24.04-arm",
        "macos-15",
        "macos-15-intel",
    ]
    assert any("-m thorough tests/release" in command for command in commands(workflow))
    (audit,) = (step for step in jobs["build"]["steps"] if "tests.guards.audit" in step.get("run", ""))
    assert audit["env"] == {"AUDIT": "require"}


def test_every_make_target_and_module_of_their_commands_exists() -> None:
    targets = set(re.findall(r"^([a-z][a-z -]*):(?!=)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    known = {name for line in targets for name in line.split()}
    for path in WORKFLOWS:
        for command in commands(read(path.name)):
            if command.startswith("make "):
                assert set(command.split()[1:]) <= known, command
            for module in re.findall(r"-m (tests[\w.]+)", command):
                assert (ROOT / (module.replace(".", "/") + ".py")).exists(), command
