"""The files that are published hold what they should: no more, no less, and the same whichever way they are built."""

from __future__ import annotations

import email
import email.message
import re
import subprocess
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest

from tests.release.building import ROOT, TOOLS, Artifacts, build_python, copy_tracked, tracked
from tests.support.servers.programs import find_program, lacking

pytestmark = [pytest.mark.thorough, pytest.mark.timeout(480)]

SDIST_LIMIT_BYTES = 2 * 1024 * 1024
PARTS_IN_C = ("broadcaster/log/tail/_push", "broadcaster/dialects/native/_encode", "broadcaster/hub/live/_writes")
NODE = Path(__file__).parent / "node"


def names_in(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def packaged(wheel: Path) -> set[str]:
    """The files that are not of the metadata."""
    return {name for name in names_in(wheel) if ".dist-info/" not in name}


def metadata_of(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def modules() -> set[str]:
    """What a wheel is to hold: the packages, and the JavaScript client where the console finds it."""
    clients = (PurePosixPath(name).relative_to("clients/js/src") for name in tracked("clients/js/src"))
    return {*tracked("broadcaster", "worker"), *(f"broadcaster/web/console/client/{name}" for name in clients)}


def tool(name: str, *arguments: str) -> str:
    done = subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_sdist_holds_what_builds_the_wheel_and_its_documents(artifacts: Artifacts) -> None:
    with tarfile.open(artifacts.sdist) as archive:
        found = {str(PurePosixPath(*PurePosixPath(each.name).parts[1:])) for each in archive if each.isfile()}
    documents = {"README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE"}
    backend = {"pyproject.toml", "hatch_build.py", "requirements/build.txt", "PKG-INFO", ".gitignore"}
    assert found == {*tracked("broadcaster", "worker", "clients/js/src"), *documents, *backend}
    size = artifacts.sdist.stat().st_size
    print(f"{artifacts.sdist.name}: {size / 1024:.0f} KiB, {len(found)} files")
    assert size <= SDIST_LIMIT_BYTES


def test_a_wheel_holds_every_file_of_the_packages_and_nothing_else(artifacts: Artifacts) -> None:
    assert packaged(artifacts.wheel) == {*modules(), *(f"{part}.abi3.so" for part in PARTS_IN_C)}
    assert packaged(artifacts.pure_wheel) == modules()
    kinds = {PurePosixPath(name).suffix for name in modules()}
    assert {".py", ".lua", ".html", ".js", ".css", ".c", ".pyi"} <= kinds
    assert {"broadcaster/py.typed", "worker/py.typed"} <= modules()


def test_the_wheel_of_the_sdist_is_that_of_the_checkout(artifacts: Artifacts, tmp_path: Path) -> None:
    source = tmp_path / "source"
    copy_tracked(source)
    repository = metadata_of(artifacts.wheel).get_all("Project-URL", [])[0].rpartition("https://github.com/")[2]
    build_python(source, tmp_path, "--wheel", BUILD_C="none", GITHUB_REPOSITORY=repository)
    (direct,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(direct) as ours, zipfile.ZipFile(artifacts.pure_wheel) as theirs:
        assert ours.namelist() == theirs.namelist()
        assert [name for name in ours.namelist() if ours.read(name) != theirs.read(name)] == []


def test_the_licence_of_everything_inside_goes_along(artifacts: Artifacts) -> None:
    licences = {name for name in modules() if re.search(r"licen[cs]e|notice|copying", name, re.IGNORECASE)}
    kept = {name.partition("/licenses/")[2] for name in names_in(artifacts.wheel) if "/licenses/" in name}
    assert kept == {"LICENSE", *(name for name in licences if not name.endswith((".py", ".pyi", ".js")))}


def test_a_package_index_shows_the_readme_and_its_links_lead_somewhere(artifacts: Artifacts) -> None:
    tool("twine", "check", "--strict", str(artifacts.sdist), str(artifacts.wheel), str(artifacts.pure_wheel))
    metadata = metadata_of(artifacts.wheel)
    text = str(metadata.get_payload())
    targets = re.findall(r"\]\(([^)\s]+)|(?:src|href)=[\"']([^\"']+)", text)
    relative = [target for pair in targets for target in pair if target and not re.match(r"https://|#", target)]
    assert relative == []
    linked = re.findall(rf"/(?:blob|raw)/v{metadata['Version']}/([^)#\"']+)", text)
    assert len(linked) > 5
    assert [name for name in linked if not (ROOT / name).exists()] == []


def test_the_metadata_is_complete(artifacts: Artifacts) -> None:
    metadata = metadata_of(artifacts.wheel)
    addresses = dict(each.split(", ", 1) for each in metadata.get_all("Project-URL", []))
    assert set(addresses) == {"Homepage", "Documentation", "Changelog", "Issues"}
    assert metadata["License-Expression"] == "Apache-2.0"
    assert "Typing :: Typed" in metadata.get_all("Classifier", [])
    assert metadata.get_all("Dynamic") is None


def test_the_compiled_module_uses_the_stable_abi_alone(artifacts: Artifacts) -> None:
    tool("abi3audit", "--strict", "--assume-minimum-abi3", "3.11", str(artifacts.wheel))
    shown = re.sub(r"\s+", " ", tool("auditwheel", "show", str(artifacts.wheel)))
    # Old enough for every image in which wheels are built (`manylinux_2_28`, `musllinux_1_2`).
    (minor,) = re.findall(r'consistent with the following platform tag: "manylinux_2_(\d+)_', shown)
    assert int(minor) <= 28, shown


def test_the_wheels_that_are_built_for_a_release_are_of_all_platforms() -> None:
    listed = [
        tool("cibuildwheel", "--print-build-identifiers", "--platform", platform, "--archs", archs, str(ROOT)).split()
        for platform, archs in (("linux", "x86_64,aarch64"), ("macos", "x86_64,arm64"))
    ]
    kinds = {name.partition("-")[2] for names in listed for name in names}
    linux = {f"{libc}_{arch}" for libc in ("manylinux", "musllinux") for arch in ("x86_64", "aarch64")}
    assert kinds == {*linux, "macosx_x86_64", "macosx_arm64"}
    assert {name.partition("-")[0] for names in listed for name in names} == {"cp311", "cp314"}


@pytest.mark.parametrize(
    "command",
    [("publint", "--strict"), ("attw", "--profile", "esm-only", "--format", "ascii")],
    ids=lambda command: command[0],
)
def test_every_way_to_import_the_javascript_package_finds_its_module_and_its_types(
    command: tuple[str, ...], artifacts: Artifacts
) -> None:
    program = NODE / "node_modules" / ".bin" / command[0]
    if not program.exists():
        lacking("no modules of node: get them with `make publish-modules`")
    find_program("node", remedy="install it, e.g. apt install nodejs npm")
    done = subprocess.run(
        [program, *command[1:], artifacts.npm.resolve()],
        cwd=NODE,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_javascript_package_holds_its_modules_types_and_documents(artifacts: Artifacts) -> None:
    with tarfile.open(artifacts.npm) as archive:
        found = {each.name.removeprefix("package/") for each in archive if each.isfile()}
    ours = {name.removeprefix("clients/js/") for name in tracked("clients/js")}
    assert found == ours
    assert {"README.md", "LICENSE", "package.json", "src/index.js", "src/index.d.ts"} <= found
