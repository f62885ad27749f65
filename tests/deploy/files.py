"""The deployment files as their tools see them: variables filled in, stages and units taken apart."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support.servers.programs import find_program

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy"
PLACEHOLDER: Final = "CHANGE-ME"
FILLED_IN: Final = "0123456789abcdef0123456789abcdef"

_VARIABLE: Final = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")
_SECONDS: Final = {"s": 1, "m": 60}
_BYTES: Final = {"k": 2**10, "m": 2**20, "g": 2**30}


def variables(text: str, *, quotes: bool = True) -> dict[str, str]:
    """The lines ``NAME=value`` of an environment file; its reader takes ``quotes`` off, or does not (kustomize)."""
    pairs = (line.split("=", 1) for line in text.split("\n") if line and not line.startswith("#"))
    return {name: value.strip("'") if quotes else value for name, value in pairs}


def filled_in(path: Path) -> str:
    """An example with its placeholders replaced, as a person would."""
    return path.read_text().replace(PLACEHOLDER, FILLED_IN)


def compose(environment: Mapping[str, str]) -> dict[str, Any]:
    """docker-compose.yml with these variables. Raises KeyError where one that must be set is not."""
    return _interpolated(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), environment)


def compose_environment(service: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """What the service's processes get: a name without a value is passed on when it is set.

    The files that the service names come from their examples. A name of the service itself goes before them, also where
    it has no value (compose-spec, ``env_file``).
    """
    given = service.get("environment", {}).items()
    passed = {name: environment.get(name) if value is None else value for name, value in given}
    files = [ROOT / f"{each['path']}.example" for each in service.get("env_file", ())]
    further = {name: value for each in files for name, value in variables(filled_in(each)).items()}
    return {name: value for name, value in (further | passed).items() if value is not None}


def _interpolated(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(each, environment) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, environment) for each in value]
    return _VARIABLE.sub(lambda match: _value(match, environment), value) if isinstance(value, str) else value


def _value(match: re.Match[str], environment: Mapping[str, str]) -> str:
    name, kind, title = match.groups()
    if value := environment.get(name):
        return value
    if kind == ":?":
        raise KeyError(f"{name}: {title}")
    return title or ""


@cache
def kubernetes(folder: Path) -> tuple[dict[str, Any], ...]:
    """What kustomize makes of an overlay."""
    return tuple(yaml.safe_load_all(kustomized(folder)))


def kustomized(folder: Path) -> str:
    """The same as text."""
    command = [find_program("kubectl", remedy="it is in .venv after `make install`"), "kustomize", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def of_kind(resources: tuple[dict[str, Any], ...], kind: str) -> dict[str, dict[str, Any]]:
    """The resources of one kind, by name."""
    return {each["metadata"]["name"]: each for each in resources if each["kind"] == kind}


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """A Dockerfile's instructions and their arguments; continued lines are joined."""
    lines = (line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#"))
    for line in "\n".join(lines).replace("\\\n", " ").split("\n"):
        name, _, rest = line.strip().partition(" ")
        yield name, rest.strip()


def unit(path: Path) -> dict[str, list[str]]:
    """The settings of a systemd unit, each with its values in their order."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().split("\n"):
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def seconds(text: str | int) -> float:
    """``75s`` or ``2m`` or a bare number of seconds."""
    number, kind = re.fullmatch(r"(\d+)([sm]?)", str(text)).groups()  # type: ignore[union-attr]
    return int(number) * _SECONDS[kind or "s"]


def size(text: str) -> int:
    """Bytes, in each tool's form: compose ``1g``, Kubernetes ``1Gi``, Valkey ``1gb``, systemd ``1G``, nginx ``4m``."""
    number, kind = re.fullmatch(r"(\d+)([kmg]?)(?:i?b?)", text.lower()).groups()  # type: ignore[union-attr]
    return int(number) * _BYTES.get(kind, 1)
