"""The rules of deploy/prometheus as a resource of the Prometheus operator, which cannot include files.

python -m tests.deploy.monitoring.prometheus_rule > deploy/kubernetes/components/prometheus-operator/rules.yaml
"""

from __future__ import annotations

from typing import Final

import yaml

from tests.deploy.files import DEPLOY

FOLDER: Final = DEPLOY / "prometheus" / "rules"
HEAD: Final = """\
# Made of deploy/prometheus/rules by `python -m tests.deploy.monitoring.prometheus_rule`; change those.
"""


def text() -> str:
    """The resource as it is committed."""
    groups = [group for path in sorted(FOLDER.glob("*.yml")) for group in yaml.safe_load(path.read_text())["groups"]]
    resource = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "broadcaster", "labels": {"app.kubernetes.io/name": "broadcaster"}},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(resource, sort_keys=False, width=120)


if __name__ == "__main__":
    print(text(), end="")
