"""What the deployment files set is a setting with a value that is accepted, and has the time and memory it needs."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import SettingsError

from broadcaster.cli.processes.front_end import DRAIN_MARGIN_S
from broadcaster.settings import PREFIX, Settings, unknown_variables
from broadcaster.web.app import create_app
from broadcaster.web.server.runner import LAST_RESORT_S
from tests.deploy.files import (
    DEPLOY,
    ROOT,
    compose_environment,
    filled_in,
    of_kind,
    seconds,
    size,
    unit,
    variables,
)
from worker.main import _GOODBYE_S
from worker.network.resolver import RESOLVED_AT_ONCE
from worker.runner import HAND_BACK_S

# The interpreter with the SDKs and nothing to do takes about 120 MiB.
PROGRAM_BYTES = 192 * 2**20
# Allowed for each viewer: its connection, its request, its place.
VIEWER_BYTES = 32 * 2**10
TO_SPARE_S = 3.0
# A worker's own threads, those of the event loop included.
OWN_THREADS = 16
# One for the providers, one for webhooks.
RESOLVERS = 2

FRONT_ENDS = ("compose front-end", "systemd serve", "kubernetes front-end")
WORKERS = ("compose worker", "systemd worker", "kubernetes worker")

Environments = Mapping[str, Mapping[str, str]]


@pytest.fixture
def environments(
    environment: Mapping[str, str], services: Mapping[str, Any], resources: tuple[dict[str, Any], ...]
) -> Environments:
    """What each kind of process gets, by where it runs and what it is."""
    deployments = of_kind(resources, "Deployment")
    return {
        "compose front-end": compose_environment(services["front-end-1"], environment),
        "compose worker": compose_environment(services["worker-1"], environment),
        "systemd serve": of_unit("serve"),
        "systemd worker": of_unit("worker"),
        "kubernetes front-end": of_pod(deployments["front-end"], resources),
        "kubernetes worker": of_pod(deployments["worker"], resources),
    }


def of_unit(kind: str) -> dict[str, str]:
    """The files that a unit names, from their examples."""
    files = unit(DEPLOY / "systemd" / f"broadcaster-{kind}@.service")["EnvironmentFile"]
    assert {os.path.dirname(each) for each in files} == {"/etc/broadcaster"}
    examples = [DEPLOY / "systemd" / f"{os.path.basename(each)}.example" for each in files]
    return {name: value for each in examples for name, value in variables(filled_in(each)).items()}


def of_pod(deployment: Mapping[str, Any], resources: tuple[dict[str, Any], ...]) -> dict[str, str]:
    """The variables of a deployment's container, from its ConfigMaps and Secrets."""
    held = {
        **{name: each["data"] for name, each in of_kind(resources, "ConfigMap").items()},
        **{name: decoded(each["data"]) for name, each in of_kind(resources, "Secret").items()},
    }
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        reference = next(iter(source.values()))
        assert reference["name"] in held or reference["optional"], reference
        found |= held.get(reference["name"], {})
    for each in container["env"]:
        if "value" in each:
            found[each["name"]] = each["value"]
        else:
            reference = each["valueFrom"]["secretKeyRef"]
            if reference.get("optional") and reference["name"] not in held:
                continue
            found[each["name"]] = held[reference["name"]][reference["key"]]
    return found


def decoded(data: Mapping[str, str]) -> dict[str, str]:
    return {name: base64.b64decode(value).decode() for name, value in data.items()}


def settings_of(monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str]) -> Settings:
    """The settings of a process that gets these variables and no others of ours."""
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return Settings()


def texts() -> Iterator[tuple[Path, str]]:
    """Every file that configures how broadcaster is run."""
    top = (
        ROOT / name
        for name in (
            "Dockerfile",
            ".dockerignore",
            "docker-compose.yml",
            "docker-compose.tls.yml",
            "docker-compose.metrics.yml",
            ".env.example",
        )
    )
    for path in (*top, *(each for each in DEPLOY.rglob("*") if each.is_file() and each.suffix != ".pyc")):
        yield path, path.read_text()


def test_every_variable_of_ours_in_a_deployment_file_is_a_setting() -> None:
    named = {(path.name, name) for path, text in texts() for name in re.findall(r"BROADCASTER_[A-Z_]*[A-Z]", text)}
    assert {"Dockerfile", "docker-compose.yml", "front-end.yaml", "serve.env.example"} <= {path for path, _ in named}
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    assert [(path, name) for path, name in named if name not in known] == []


@pytest.mark.parametrize("where", [*FRONT_ENDS, *WORKERS])
def test_the_settings_of_every_process_are_accepted(
    where: str, environments: Environments, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(monkeypatch, environments[where])
    assert unknown_variables(environments[where]) == []
    assert settings.redis_url is not None
    assert settings.default_model != "local"  # which the image does not hold


@pytest.mark.parametrize("kind", ["front-end", "worker"])
def test_compose_passes_on_each_setting_that_it_does_not_name_by_a_file_that_may_be_missing(
    kind: str, services: Mapping[str, Any]
) -> None:
    example = (DEPLOY / "compose" / f"{kind}.env.example").read_text()
    shown = re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)
    for service in (services[f"{kind}-1"], services[f"{kind}-2"]):
        assert service["env_file"] == [{"path": f"deploy/compose/{kind}.env", "required": False}]
        # It would have no effect there.
        assert not set(shown) & service["environment"].keys()
    assert shown


def test_front_ends_demand_keys_and_workers_have_none(environments: Environments) -> None:
    for where in FRONT_ENDS:
        assert environments[where]["BROADCASTER_AUTH"] == "keys"
        assert not [name for name in environments[where] if name.endswith(("_API_KEY", "_WEBHOOK_SECRET"))], where
    for where in WORKERS:
        assert not {"BROADCASTER_API_KEYS", "BROADCASTER_TOKEN_KEYS"} & environments[where].keys()
        assert "ANTHROPIC_API_KEY" in environments[where]


def test_front_ends_and_workers_of_one_deployment_agree_on_redis_and_models(environments: Environments) -> None:
    for front_end, worker in zip(FRONT_ENDS, WORKERS, strict=True):
        for name in ("REDIS_URL", "DEFAULT_MODEL", "ROUTES", "PROVIDERS", "WEBHOOK_HOSTS"):
            given = [environments[where].get(f"{PREFIX}{name}") for where in (front_end, worker)]
            assert given[0] == given[1], name


@pytest.mark.parametrize(
    "example",
    [
        ".env.example",
        "deploy/systemd/serve.env.example",
        "deploy/kubernetes/overlays/example/secrets/api-keys.env.example",
    ],
)
def test_an_example_that_was_not_filled_in_is_refused(example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = variables((ROOT / example).read_text())
    with pytest.raises((ValidationError, SettingsError), match=r"(?i)api_keys"):
        settings_of(monkeypatch, {"BROADCASTER_AUTH": "keys", **given})


def test_every_front_end_may_take_its_drain_before_it_is_killed(
    environments: Environments,
    services: Mapping[str, Any],
    resources: tuple[dict[str, Any], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod = of_kind(resources, "Deployment")["front-end"]["spec"]["template"]["spec"]
    asleep_s = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    graces = {
        "compose front-end": seconds(services["front-end-1"]["stop_grace_period"]),
        "systemd serve": seconds(unit(DEPLOY / "systemd" / "broadcaster-serve@.service")["TimeoutStopSec"][0]),
        "kubernetes front-end": pod["terminationGracePeriodSeconds"] - asleep_s,
    }
    for where in FRONT_ENDS:
        window_s = settings_of(monkeypatch, environments[where]).drain_window_s
        assert graces[where] >= window_s + DRAIN_MARGIN_S + LAST_RESORT_S + TO_SPARE_S, where


def test_every_worker_may_take_its_drain_before_it_is_killed(
    environments: Environments,
    services: Mapping[str, Any],
    resources: tuple[dict[str, Any], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pod = of_kind(resources, "Deployment")["worker"]["spec"]["template"]["spec"]
    graces = {
        "compose worker": seconds(services["worker-1"]["stop_grace_period"]),
        "systemd worker": seconds(unit(DEPLOY / "systemd" / "broadcaster-worker@.service")["TimeoutStopSec"][0]),
        "kubernetes worker": pod["terminationGracePeriodSeconds"],
    }
    for where in WORKERS:
        drain_s = settings_of(monkeypatch, environments[where]).drain_s
        assert graces[where] >= drain_s + HAND_BACK_S + _GOODBYE_S + TO_SPARE_S, where


def test_every_process_has_the_memory_that_its_settings_allow_it_to_take(
    environments: Environments,
    services: Mapping[str, Any],
    resources: tuple[dict[str, Any], ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    deployments = of_kind(resources, "Deployment")
    limits = {
        **{
            f"compose {name}": services[f"{name}-1"]["deploy"]["resources"]["limits"]["memory"]
            for name in ("front-end", "worker")
        },
        **{
            f"systemd {name}": unit(DEPLOY / "systemd" / f"broadcaster-{name}@.service")["MemoryMax"][0]
            for name in ("serve", "worker")
        },
        **{
            f"kubernetes {name}": each["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
            for name, each in deployments.items()
        },
    }
    for where in FRONT_ENDS:
        settings = settings_of(monkeypatch, environments[where])
        each_bytes = settings.hub_bytes + settings.max_viewers * VIEWER_BYTES + PROGRAM_BYTES
        assert settings.processes >= 1, where  # as many as the machine has cores need as many memories
        assert size(limits[where]) >= settings.processes * each_bytes, where
    for where in WORKERS:
        settings = settings_of(monkeypatch, environments[where])
        assert size(limits[where]) >= settings.buffer_bytes + PROGRAM_BYTES, where


def test_every_front_end_may_open_a_file_for_each_viewer(services: Mapping[str, Any]) -> None:
    most = Settings.model_fields["max_viewers"].default
    assert services["front-end-1"]["ulimits"]["nofile"] > most
    assert int(unit(DEPLOY / "systemd" / "broadcaster-serve@.service")["LimitNOFILE"][0]) > most


def most_threads() -> int:
    """Of a worker: one for each call of a tool that is a plain function, and one for each look-up of a name."""
    tools = Settings.model_fields["tool_concurrency"].default
    return int(tools) + RESOLVERS * RESOLVED_AT_ONCE + OWN_THREADS


def test_every_worker_of_systemd_may_start_its_threads() -> None:
    assert int(unit(DEPLOY / "systemd" / "broadcaster-worker@.service")["TasksMax"][0]) >= most_threads()


def test_every_worker_of_compose_may_start_its_threads(services: Mapping[str, Any]) -> None:
    assert services["worker-1"]["deploy"]["resources"]["limits"]["pids"] >= most_threads()


def test_valkey_may_take_half_of_its_memory_and_all_of_its_connections(
    services: Mapping[str, Any], resources: tuple[dict[str, Any], ...]
) -> None:
    lines = (line.split(" ", 1) for line in (DEPLOY / "redis" / "valkey.conf").read_text().split("\n") if line)
    configuration = {name: value for name, *rest in lines for value in rest if name != "#"}
    most = size(configuration["maxmemory"])
    pod = of_kind(resources, "StatefulSet")["valkey"]["spec"]["template"]["spec"]["containers"][0]
    assert size(services["valkey"]["deploy"]["resources"]["limits"]["memory"]) >= 2 * most
    assert size(pod["resources"]["limits"]["memory"]) >= 2 * most
    assert services["valkey"]["ulimits"]["nofile"] > int(configuration["maxclients"]) + 32


def test_every_proxy_is_more_patient_than_the_front_ends_and_takes_bodies_as_large(
    resources: tuple[dict[str, Any], ...],
) -> None:
    caddy = (DEPLOY / "caddy" / "Caddyfile").read_text()
    nginx = (DEPLOY / "nginx" / "broadcaster.conf").read_text()
    ingresses = of_kind(resources, "Ingress")
    streams, answers = (
        {key.rpartition("/")[2]: value for key, value in ingresses[name]["metadata"]["annotations"].items()}
        for name in ("front-end", "front-end-answers")
    )
    nginx_s = [seconds(each) for each in re.findall(r"proxy_read_timeout (\w+);", nginx)]
    patience_s = {
        "caddy": seconds(re.findall(r"response_header_timeout (\w+)", caddy)[0]),
        "nginx": nginx_s[0],
        "ingress": seconds(streams["proxy-read-timeout"]),
    }
    whole_answer_s = {patience_s["caddy"], nginx_s[1], seconds(answers["proxy-read-timeout"])}
    bodies = {
        "nginx": size(re.findall(r"client_max_body_size (\w+);", nginx)[0]),
        "ingress": size(streams["proxy-body-size"]),
        "answers": size(answers["proxy-body-size"]),
    }
    fields = Settings.model_fields
    assert min(patience_s.values()) > max(fields["heartbeat_s"].default, fields["long_poll_timeout_s"].default)
    waiting_s = fields["queue_timeout_s"].default
    assert min(whole_answer_s) > waiting_s + fields["generation_timeout_s"].default
    (alternatives,) = re.findall(r'location ~ "\^/v1/\((.+)\)\$"', nginx)
    (rule,) = ingresses["front-end-answers"]["spec"]["rules"]
    paths = [each["path"] for each in rule["http"]["paths"]]
    assert paths == [f"/v1/{each}" for each in alternatives.split("|")]
    served = {
        (getattr(route, "path", ""), method)
        for route in create_app(Settings()).routes
        for method in getattr(route, "methods", ())
    }
    assert {(path, "POST") for path in paths} <= served
    assert answers | {"proxy-read-timeout": streams["proxy-read-timeout"]} == streams
    assert set(bodies.values()) == {fields["max_body_bytes"].default}


def test_no_ingress_has_an_access_log_because_that_would_hold_the_query_with_its_token(
    resources: tuple[dict[str, Any], ...],
) -> None:
    ingresses = of_kind(resources, "Ingress")
    switches = {
        name: ingress["metadata"]["annotations"].get("nginx.ingress.kubernetes.io/enable-access-log")
        for name, ingress in ingresses.items()
    }
    assert switches == {"front-end": "false", "front-end-answers": "false"}
