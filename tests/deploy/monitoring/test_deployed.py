"""Prometheus finds every process at the port at which the deployment serves its metrics."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import yaml

from tests.deploy.files import DEPLOY, ROOT, kubernetes, of_kind, unit
from tests.deploy.monitoring import prometheus_rule
from tests.deploy.monitoring.test_grafana import load

JOBS: Final = {"broadcaster-front-end", "broadcaster-worker"}
OPERATOR: Final = DEPLOY / "kubernetes" / "components" / "prometheus-operator"


def targets(name: str) -> dict[str, list[str]]:
    """The targets of a configuration by job."""
    loaded = yaml.safe_load((DEPLOY / "prometheus" / name).read_text("utf-8"))
    found = {job["job_name"]: job["static_configs"][0]["targets"] for job in loaded["scrape_configs"]}
    assert set(found) == JOBS
    return found


def test_compose_scrapes_each_of_its_services_in_a_network_that_they_share(services: dict[str, Any]) -> None:
    override = yaml.safe_load((ROOT / "docker-compose.metrics.yml").read_text("utf-8"))["services"]
    scraped = [target.split(":") for each in targets("compose.yml").values() for target in each]
    assert {name for name, _ in scraped} == {name for name in services if name not in ("valkey", "nginx")}
    prometheus = override["prometheus"]
    for name, port in scraped:
        assert override[name]["environment"]["BROADCASTER_METRICS_PORT"] == port
        assert services[name]["environment"]["BROADCASTER_METRICS_HOST"] == "0.0.0.0"
        assert set(services[name]["networks"]) & set(prometheus["networks"])
    assert prometheus["ports"] == ["${PUBLISH_PROMETHEUS:-127.0.0.1:9090}:9090"]
    (configuration,) = (each for each in prometheus["command"] if each.startswith("--config.file="))
    mounted, inside = prometheus["volumes"][0].split(":")[:2]
    assert (ROOT / mounted / Path(configuration.partition("=")[2]).relative_to(inside)).exists()


def test_the_services_of_systemd_are_scraped_at_their_ports() -> None:
    found = targets("prometheus.yml")
    text = (ROOT / "docs" / "deployment.md").read_text("utf-8")
    instances = set(re.findall(r"broadcaster-serve@(\d+)", text))
    environment = " ".join(unit(DEPLOY / "systemd" / "broadcaster-serve@.service")["Environment"])
    assert "BROADCASTER_METRICS_PORT=1%i" in environment
    assert set(found["broadcaster-front-end"]) == {f"127.0.0.1:1{instance}" for instance in instances}
    drop_in = (DEPLOY / "systemd" / "broadcaster-worker@.service").read_text("utf-8")
    (first,) = re.findall(r"BROADCASTER_METRICS_PORT=(\d+)", drop_in)
    assert found["broadcaster-worker"][0] == f"127.0.0.1:{first}"


def test_the_operators_rules_are_those_of_prometheus() -> None:
    remedy = "python -m tests.deploy.monitoring.prometheus_rule > …/components/prometheus-operator/rules.yaml"
    assert (OPERATOR / "rules.yaml").read_text("utf-8") == prometheus_rule.text(), remedy


def test_the_operators_component_monitors_every_pod_with_metrics_and_brings_the_dashboard(overlay: Path) -> None:
    ours = overlay.with_name("monitored")
    ours.mkdir(exist_ok=True)
    (ours / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "namespace": "broadcaster",
                "resources": ["../example"],
                "components": ["../../components/prometheus-operator"],
            }
        )
    )
    resources = kubernetes(ours)
    monitor = of_kind(resources, "PodMonitor")["broadcaster"]["spec"]
    chosen = monitor["selector"]["matchLabels"].items()
    (endpoint,) = monitor["podMetricsEndpoints"]
    served = set()
    for name, each in of_kind(resources, "Deployment").items():
        assert chosen <= each["spec"]["template"]["metadata"]["labels"].items()
        (container,) = each["spec"]["template"]["spec"]["containers"]
        ports = {port["name"]: str(port["containerPort"]) for port in container["ports"]}
        variables = {variable["name"]: variable.get("value") for variable in container["env"]}
        assert ports[endpoint["port"]] == variables["BROADCASTER_METRICS_PORT"]
        served.add(f"broadcaster-{name}")
    assert served == JOBS
    (dashboard,) = (each for each in resources if each["metadata"].get("labels", {}).get("grafana_dashboard"))
    assert yaml.safe_load(dashboard["data"]["broadcaster.json"]) == load()
    assert of_kind(resources, "PrometheusRule")["broadcaster"]["spec"]["groups"]
