"""The commands of docs/deployment.md, run as far as they go here: without a cluster, a Docker engine, systemd and root.

They run in a copy of the checkout, below a root of its own, with doubles for the programs that would act on the world;
their calls are written down. `kubectl kustomize` and `nginx` are the real ones.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.deploy.files import DEPLOY, PLACEHOLDER, ROOT, of_kind, unit
from tests.support.servers.nginx import create_certificate, find_nginx
from tests.support.servers.programs import find_program

PAGE: Final = ROOT / "docs" / "deployment.md"
DOUBLES: Final = ("docker", "systemctl", "apt-get", "python3", "sleep")
# What a command names outside the checkout.
OUTSIDE: Final = re.compile(r"(?<![\w./])/(?:etc|opt)/")


def commands(heading: str) -> list[str]:
    """The indented lines below a heading of the page, in their order."""
    section = PAGE.read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [line.strip() for line in section.split("\n") if line.startswith("    ")]


@dataclass
class Machine:
    """A copy of the checkout, a root beside it, and the calls of the doubles."""

    folder: Path

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def calls(self) -> list[str]:
        """The doubles' command lines."""
        return (self.folder / "asked").read_text().split("\n")[:-1]

    def run(self, lines: list[str]) -> str:
        """All lines in one shell, as they are pasted; every one must end well."""
        script = "set -e\n" + OUTSIDE.sub(lambda match: f"{self.root}{match[0]}", "\n".join(lines))
        environment = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        command = ["/bin/sh", "-c", f"{script}\npwd"]
        done = subprocess.run(command, cwd=self.checkout, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        # A user that pastes them stays in the folder.
        assert done.stdout.split("\n")[-2] == str(self.checkout)
        return done.stdout

    def double(self, name: str, besides: str = "") -> None:
        """A program that writes its calls down; ``besides`` runs first."""
        path = self.folder / "bin" / name
        path.write_text(f'#!/bin/sh\n{besides}\necho "{name} $*" >>{self.folder / "asked"}\n')
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "asked").touch()
    for each in ("etc/systemd/system", "etc/nginx", "etc/caddy", "opt/broadcaster/bin"):
        (machine.root / each).mkdir(parents=True)
    shutil.copytree(DEPLOY, machine.checkout / "deploy")
    for name in (".env.example", "docker-compose.yml", "docker-compose.tls.yml"):
        shutil.copy(ROOT / name, machine.checkout)
    create_certificate(tmp_path)
    for path in (tmp_path / "certificate").iterdir():
        shutil.move(path, machine.checkout)
    for name in DOUBLES:
        machine.double(name)
    return machine


def test_the_commands_for_kubernetes_make_an_overlay_that_kustomize_takes_and_call_the_cluster_in_order(
    machine: Machine,
) -> None:
    kubectl = find_program("kubectl", remedy="it is in .venv after `make install`")
    machine.double("kubectl", f'if [ "$1" = kustomize ]; then exec {kubectl} "$@"; fi')
    lines = commands("Kubernetes")
    result = machine.run(lines)
    resources: tuple[dict[str, Any], ...] = tuple(yaml.safe_load_all(result.rpartition("\n/")[0]))
    secrets = {name.rpartition("-")[0]: each["data"] for name, each in of_kind(resources, "Secret").items()}
    kinds = ("redis", "api-keys", "token-keys", "providers")
    assert secrets.keys() == {f"broadcaster-{kind}" for kind in kinds}
    overlay = machine.checkout / "deploy" / "kubernetes" / "overlays" / "ours"
    filled = {each.name: each.read_text() for each in (overlay / "secrets").glob("*.env")}
    assert not [name for name, text in filled.items() if PLACEHOLDER in text]
    # Twice the same password in one file, another in the other.
    held = [set(re.findall(r"[0-9a-f]{48}", filled[name])) for name in ("redis.env", "api-keys.env")]
    assert [len(each) for each in held] == [1, 1]
    assert held[0] != held[1]
    (namespace,) = {each["metadata"]["namespace"] for each in resources}
    tls = of_kind(resources, "Ingress")["front-end"]["spec"]["tls"][0]["secretName"]
    image = of_kind(resources, "Deployment")["worker"]["spec"]["template"]["spec"]["containers"][0]["image"]
    assert machine.calls() == [
        f"docker build --tag {image} .",
        f"docker push {image}",
        f"kubectl create namespace {namespace}",
        f"kubectl -n {namespace} create secret tls {tls} --cert=fullchain.pem --key=privkey.pem",
        "kubectl apply --kustomize deploy/kubernetes/overlays/ours",
        # An upgrade.
        f"kubectl -n {namespace} rollout pause deployment worker front-end",
        "kubectl apply --kustomize deploy/kubernetes/overlays/ours",
        f"kubectl -n {namespace} rollout status statefulset valkey",
        f"kubectl -n {namespace} rollout resume deployment worker",
        f"kubectl -n {namespace} rollout status deployment worker",
        f"kubectl -n {namespace} rollout resume deployment front-end",
    ]
    names = {(kind.lower(), name) for kind in ("Deployment", "StatefulSet") for name in of_kind(resources, kind)}
    assert names == {("deployment", "worker"), ("deployment", "front-end"), ("statefulset", "valkey")}
    for name in ("fullchain.pem", "privkey.pem"):
        assert (machine.checkout / name).exists()


def test_the_commands_for_compose_name_services_that_are_there_and_lay_the_certificate_where_it_is_mounted(
    machine: Machine,
) -> None:
    if os.getuid() != 0:
        # To give a file to user 101 takes root.
        machine.double("install", 'eval "last=\\${$#}"; case $1 in -d) mkdir -p "$2";; *) cp ./*.pem "$last";; esac')
    machine.run(commands("Compose"))
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    calls = [line for line in machine.calls() if line.startswith("docker ")]
    replaced = [line.split()[-1] for line in calls if "--no-deps --wait" in line]
    assert replaced == ["worker-1", "worker-2", "front-end-1", "front-end-2"]
    assert set(replaced) == {name for name in services if name not in ("valkey", "nginx")}
    assert "docker compose up --detach --no-deps --force-recreate --wait valkey nginx" in calls
    # Built before anything is started or replaced, each time.
    assert calls.index("docker compose build") < calls.index("docker compose up --detach --wait")
    assert calls.count("docker compose build") == 2
    mounts = yaml.safe_load((ROOT / "docker-compose.tls.yml").read_text())["services"]["nginx"]["volumes"]
    certificate = machine.checkout / next(each["source"] for each in mounts if isinstance(each, dict))
    assert sorted(each.name for each in certificate.iterdir()) == ["fullchain.pem", "privkey.pem"]
    if os.getuid() == 0:
        key = (certificate / "privkey.pem").stat()
        assert (f"{key.st_uid}:{key.st_gid}", key.st_mode & 0o777) == (services["nginx"]["user"], 0o400)


def test_the_commands_for_systemd_put_every_file_where_a_unit_reads_it_and_an_nginx_that_starts(
    machine: Machine,
) -> None:
    nginx = machine.root / "etc" / "nginx"
    pip = machine.root / "opt" / "broadcaster" / "bin" / "pip"
    pip.write_text("#!/bin/sh\n")
    pip.chmod(0o755)
    # As Debian's package starts it, but for where the files lie and what only root may do.
    machine.double("nginx", f"sed -i 's#/var/log/nginx/##' {nginx}/machine.conf {nginx}/tls.conf")
    machine.run(commands("systemd"))
    units = sorted((machine.root / "etc" / "systemd" / "system").glob("*.service"))
    assert len(units) == 3
    for each in units:
        for name in unit(each)["EnvironmentFile"]:
            file = machine.root / name.lstrip("/")
            assert file.stat().st_mode & 0o777 == 0o600, name
    arguments = unit(units[1])["ExecStart"][0].split()
    assert arguments[:2] == ["/bin/sh", "/opt/broadcaster/redis/start.sh"]
    assert (machine.root / arguments[1].lstrip("/")).read_text() == (DEPLOY / "redis" / "start.sh").read_text()
    enabled = {name for line in machine.calls() if "enable --now" in line for name in line.split()[3:]}
    ports = sorted(re.findall(r"serve@(\d+)", " ".join(enabled)))
    upstream = (nginx / "upstream.conf").read_text()
    assert re.findall(r"^server 127\.0\.0\.1:(\d+) max_fails=2 fail_timeout=5s;$", upstream, re.MULTILINE) == ports
    caddy = "".join(each.read_text() for each in (machine.root / "etc/systemd/system/caddy.service.d").iterdir())
    assert re.findall(r"127\.0\.0\.1:(\d+)", caddy) == ports
    (nginx / "machine.conf").write_text(
        re.sub(r"listen \[::\].*", "", (nginx / "machine.conf").read_text()).replace("listen ", "listen 127.0.0.1:")
    )
    tested = subprocess.run(
        [find_nginx(), "-t", "-p", f"{nginx}/", "-c", f"{nginx}/nginx.conf", "-g", f"pid {nginx}/pid;"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "syntax is ok" in tested.stderr, tested.stderr


def test_the_service_of_valkey_is_reached_at_the_url_of_the_others_with_its_own_password() -> None:
    example = (DEPLOY / "systemd" / "valkey.env.example").read_text()
    url = (DEPLOY / "systemd" / "broadcaster.env.example").read_text()
    assert f"VALKEY_PASSWORD={PLACEHOLDER}\n" in example
    assert f"redis://broadcaster:{PLACEHOLDER}@127.0.0.1:6379/0\n" in url
    service = unit(DEPLOY / "systemd" / "broadcaster-valkey.service")
    assert service["ExecStart"][0].endswith(" --bind 127.0.0.1")
    assert service["Environment"] == [f"VALKEY_DATA=/var/lib/{service['StateDirectory'][0]}"]
