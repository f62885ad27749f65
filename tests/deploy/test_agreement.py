"""What several deployment files state of one thing is the same: ports, images, users, names; and no process is root."""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from broadcaster import __version__
from broadcaster.log.redis.embedded import find_server, server_version
from broadcaster.settings import Settings
from tests.deploy.files import DEPLOY, ROOT, instructions, of_kind, unit

Resources = tuple[dict[str, Any], ...]

DOCKERFILE = tuple(instructions((ROOT / "Dockerfile").read_text()))
OURS = ("front-end-1", "front-end-2", "worker-1", "worker-2")


def last_stage() -> dict[str, str]:
    """The instructions of the image that is shipped; the last one of a kind counts."""
    stages = [at for at, (name, _) in enumerate(DOCKERFILE) if name == "FROM"]
    return dict(DOCKERFILE[stages[-1] :])


def pods(resources: Resources) -> dict[str, dict[str, Any]]:
    """The pods' specifications, by the name of what makes them."""
    makers = {**of_kind(resources, "Deployment"), **of_kind(resources, "StatefulSet")}
    return {name: each["spec"]["template"]["spec"] for name, each in makers.items()}


def test_the_front_ends_port_is_the_same_everywhere(services: Mapping[str, Any], resources: Resources) -> None:
    pod = pods(resources)["front-end"]["containers"][0]
    policy = of_kind(resources, "NetworkPolicy")["front-end"]
    upstream = re.findall(r"^server ([\w-]+):(\d+)", (DEPLOY / "nginx" / "upstream.conf").read_text(), re.MULTILINE)
    documented = {
        last_stage()["EXPOSE"],
        *re.findall(r"BROADCASTER_PORT=(\d+)", last_stage()["ENV"]),
        services["front-end-1"]["environment"]["BROADCASTER_PORT"],
        *(port for _, port in upstream),
        str(pod["ports"][0]["containerPort"]),
        *(each["value"] for each in pod["env"] if each["name"] == "BROADCASTER_PORT"),
        *(str(port["port"]) for port in policy["spec"]["ingress"][0]["ports"]),
    }
    assert documented == {str(Settings.model_fields["port"].default)}
    assert [host for host, _ in upstream] == [name for name in services if name.startswith("front-end")]


def test_the_port_of_metrics_is_the_same_everywhere_and_open_to_the_scraper_alone(resources: Resources) -> None:
    policies = of_kind(resources, "NetworkPolicy")
    found = set()
    for name in ("front-end", "worker"):
        container = pods(resources)[name]["containers"][0]
        given = {each["name"]: each.get("value") for each in container["env"]}
        assert given["BROADCASTER_METRICS_HOST"] == "0.0.0.0"
        rule = policies[name]["spec"]["ingress"][-1]
        assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
        found |= {given["BROADCASTER_METRICS_PORT"], *(str(port["port"]) for port in rule["ports"])}
        found |= {str(port["containerPort"]) for port in container["ports"] if port["name"] == "metrics"}
    assert found == {"9464"}
    assert "#BROADCASTER_METRICS_PORT=9464" in (ROOT / ".env.example").read_text()


def test_the_service_leads_to_the_front_ends_by_the_ports_name(resources: Resources) -> None:
    service = of_kind(resources, "Service")["front-end"]["spec"]
    ingress = of_kind(resources, "Ingress")["front-end"]["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    front_end = of_kind(resources, "Deployment")["front-end"]["spec"]
    assert service["selector"] == front_end["template"]["metadata"]["labels"] == front_end["selector"]["matchLabels"]
    assert service["ports"][0]["targetPort"] == front_end["template"]["spec"]["containers"][0]["ports"][0]["name"]
    assert (ingress["name"], ingress["port"]["name"]) == ("front-end", service["ports"][0]["name"])


def test_nginx_is_published_where_it_listens_and_gets_every_file_that_it_includes(services: Mapping[str, Any]) -> None:
    nginx = services["nginx"]
    (port,) = re.findall(r"^listen (\d+)[ ;]", (DEPLOY / "nginx" / "machine.conf").read_text(), re.MULTILINE)
    assert nginx["ports"] == [f"127.0.0.1:8080:{port}"]
    mounted = {each.split(":")[1] for each in nginx["volumes"]}
    text = "".join((DEPLOY / "nginx" / Path(each).name).read_text() for each in mounted)
    assert mounted == {
        "/etc/nginx/nginx.conf",
        *(f"/etc/nginx/{each}" for each in re.findall(r"include ([\w.-]+);", text)),
    }


def test_every_file_that_a_container_mounts_is_there(services: Mapping[str, Any]) -> None:
    mounts = [each.split(":") for service in services.values() for each in service.get("volumes", ())]
    assert len(mounts) > 4
    for source, _, *options in mounts:
        if source.startswith("."):
            assert (ROOT / source).exists(), source
            assert options == ["ro"], source


def test_one_image_of_this_version_serves_front_ends_and_workers(
    services: Mapping[str, Any], resources: Resources
) -> None:
    assert {services[name]["image"] for name in OURS} == {f"broadcaster:{__version__}"}
    images = {pods(resources)[name]["containers"][0]["image"] for name in ("front-end", "worker")}
    assert images == {f"registry.example.com/broadcaster:{__version__}"}
    assert {tuple(services[name]["command"]) for name in OURS} == {("serve",), ("worker",)}
    assert pods(resources)["front-end"]["containers"][0]["args"] == ["serve"]
    assert pods(resources)["worker"]["containers"][0]["args"] == ["worker"]


def test_valkey_is_the_version_that_the_tests_run_on(
    services: Mapping[str, Any], resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = services["valkey"]["image"]
    assert pods(resources)["valkey"]["containers"][0]["image"] == image
    tested = server_version(find_server())
    assert image.startswith(f"valkey/valkey:{tested[0]}.{tested[1]}.")
    assert pods(resources)["valkey"]["containers"][0]["args"] == services["valkey"]["command"]


def test_every_image_is_pinned_to_the_patch(services: Mapping[str, Any], resources: Resources) -> None:
    images = {service["image"] for service in services.values()}
    images |= {pod["containers"][0]["image"] for pod in pods(resources).values()}
    for image in images:
        assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", image), image
    bases = {rest.partition(" ")[0] for name, rest in DOCKERFILE if name == "FROM"}
    assert bases == {"python:3.11-slim-bookworm"}


def test_no_process_is_root_and_all_have_the_same_user_everywhere(
    services: Mapping[str, Any], resources: Resources
) -> None:
    contexts = {name: pod["securityContext"] for name, pod in pods(resources).items()}
    users = {name: f"{each['runAsUser']}:{each['runAsGroup']}" for name, each in contexts.items()}
    assert {last_stage()["USER"], *(services[name]["user"] for name in OURS)} == {"10001:10001"}
    assert users["front-end"] == users["worker"] == "10001:10001"
    assert users["valkey"] == services["valkey"]["user"]
    assert all(each["runAsNonRoot"] for each in contexts.values())
    assert not [name for name, service in services.items() if service["user"].startswith("0")]


def test_every_container_is_read_only_without_rights_and_within_bounds(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}, name
        assert service["logging"]["options"]["max-size"], name
        assert "privileged" not in service, name


def test_every_pod_meets_the_restricted_standard(resources: Resources) -> None:
    for name, pod in pods(resources).items():
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert "memory" in container["resources"]["limits"], name


def test_no_probe_that_restarts_a_pod_depends_on_redis(resources: Resources) -> None:
    for pod in pods(resources).values():
        for container in pod["containers"]:
            restarting = (container.get(f"{kind}Probe", {}).get("httpGet") for kind in ("startup", "liveness"))
            assert {each["path"] for each in restarting if each} <= {"/healthz"}
    assert pods(resources)["front-end"]["containers"][0]["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_no_variable_that_kubernetes_makes_up_is_taken_for_a_setting(resources: Resources) -> None:
    # A Service named `broadcaster` sets BROADCASTER_PORT=tcp://… in every pod of its namespace.
    assert all(pod["enableServiceLinks"] is False for pod in pods(resources).values())


def test_valkey_is_reached_by_the_two_services_that_need_it_and_not_from_outside(
    services: Mapping[str, Any], resources: Resources
) -> None:
    assert services["valkey"]["networks"] == ["log"]
    assert "ports" not in services["valkey"]
    assert services["nginx"]["networks"].keys() == {"public", "edge"}
    assert [name for name in services if "ports" in services[name]] == ["nginx"]
    (rule,) = of_kind(resources, "NetworkPolicy")["valkey"]["spec"]["ingress"]
    allowed = rule["from"][0]["podSelector"]["matchExpressions"][1]["values"]
    assert sorted(allowed) == ["front-end", "worker"]


def test_front_ends_and_valkey_cannot_reach_the_internet_and_nginx_alone_is_published() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    closed = {name for name, network in compose["networks"].items() if network.get("internal")}
    assert closed == {"edge", "log"}
    open_to = {name for name, service in compose["services"].items() if not closed.issuperset(service["networks"])}
    assert open_to == {"nginx", "worker-1", "worker-2"}


def test_nginx_finds_a_front_end_that_was_made_anew_at_its_old_address(services: Mapping[str, Any]) -> None:
    (edge,) = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["networks"]["edge"]["ipam"]["config"]
    there = [service["networks"]["edge"] for service in services.values() if "edge" in service["networks"]]
    addresses = {ipaddress.ip_address(each["ipv4_address"]) for each in there}
    assert len(addresses) == len(there) == 3
    # Every address is given: none is left over for another container. The first is the bridge's own.
    hosts = list(ipaddress.ip_network(edge["subnet"]).hosts())
    assert addresses < set(hosts[1:])


def test_one_service_builds_the_image_and_none_pulls_it_from_a_registry(services: Mapping[str, Any]) -> None:
    assert [name for name in services if "build" in services[name]] == ["front-end-1"]
    assert {services[name]["pull_policy"] for name in OURS} == {"never"}


def test_with_tls_nginx_is_published_where_it_listens_with_every_file_that_it_includes() -> None:
    nginx = yaml.safe_load((ROOT / "docker-compose.tls.yml").read_text())["services"]["nginx"]
    plain, tls = re.findall(r"^listen (\d+)[ ;]", (DEPLOY / "nginx" / "compose-tls.conf").read_text(), re.MULTILINE)
    assert nginx["ports"] == [f"${{PUBLISH_TLS:-443}}:{tls}"]
    assert f"https://127.0.0.1:{tls}/" in nginx["healthcheck"]["test"][-1]
    # The port of docker-compose.yml leads to TLS.
    assert plain == "8080"
    *files, certificate = nginx["volumes"]
    assert files == [
        "./deploy/nginx/compose-tls.conf:/etc/nginx/machine.conf:ro",
        "./deploy/nginx/tls.conf:/etc/nginx/tls.conf:ro",
    ]
    assert all((ROOT / each.split(":")[0]).exists() for each in files)
    folders = re.findall(r"^ssl_certificate\w* (\w+)/", (DEPLOY / "nginx" / "tls.conf").read_text(), re.MULTILINE)
    assert {f"/etc/nginx/{each}" for each in folders} == {certificate["target"]}


def test_everything_but_the_workers_has_a_check_and_waits_for_what_it_needs(services: Mapping[str, Any]) -> None:
    for name, service in services.items():
        assert (
            service["healthcheck"] == {"disable": True} if name.startswith("worker") else service["healthcheck"]["test"]
        )
        for needed, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert services[needed]["healthcheck"].get("disable") is None
    assert services["nginx"]["depends_on"].keys() == {"front-end-1", "front-end-2"}
    assert all(services[name]["depends_on"].keys() == {"valkey"} for name in OURS)


def test_the_units_start_what_the_image_starts(resources: Resources) -> None:
    (serve,) = unit(DEPLOY / "systemd" / "broadcaster-serve@.service")["ExecStart"]
    (worker,) = unit(DEPLOY / "systemd" / "broadcaster-worker@.service")["ExecStart"]
    assert (serve, worker) == (
        "/opt/broadcaster/bin/broadcaster serve --port %i",
        "/opt/broadcaster/bin/broadcaster worker",
    )
    assert json.loads(last_stage()["ENTRYPOINT"]) == ["broadcaster"]
    assert json.loads(last_stage()["CMD"]) == ["serve"]
    assert last_stage()["COPY"] == "--from=build /opt/broadcaster /opt/broadcaster"
    assert last_stage()["STOPSIGNAL"] == "SIGTERM"


def test_the_image_is_made_of_files_that_docker_is_given_and_of_no_others() -> None:
    given = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line.startswith("!")]
    allowed = {line.removeprefix("!") for line in given}
    copied = {
        source
        for name, rest in DOCKERFILE
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / each).exists() for each in allowed)
    # A whitelist: what is not named, secrets and the tests among it, never reaches the builder.
    assert "*" in (ROOT / ".dockerignore").read_text().split("\n")
    assert not [each for each in allowed if fnmatch.fnmatch(os.path.basename(each), ".*")]
