"""The rules are accepted by promtool, name metrics that exist, hold at their durations, and lead to a runbook."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from broadcaster.observability.limits import LIMITS
from broadcaster.observability.metrics import METRICS
from tests.deploy.files import DEPLOY, ROOT
from tests.deploy.monitoring.names import unknown_metrics
from tests.support.servers.programs import find_program
from tests.support.servers.prometheus import REMEDY, TIMES, quicker

PROMETHEUS: Final = DEPLOY / "prometheus"
RULES: Final = sorted((PROMETHEUS / "rules").glob("*.yml"))
UNIT_TESTS: Final = Path(__file__).with_name("alerts.yml")


def promtool(*arguments: str | Path) -> None:
    """It must end well."""
    command = [find_program("promtool", remedy=REMEDY), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def rules() -> Iterator[dict[str, Any]]:
    """Every rule of every file."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            yield from group["rules"]


ALERTS: Final = {rule["alert"]: rule for rule in rules() if "alert" in rule}


def test_promtool_accepts_the_configurations_and_the_rules() -> None:
    for path in sorted(PROMETHEUS.glob("*.yml")):
        promtool("check", "config", path)
    promtool("check", "rules", "--lint=all", "--lint-fatal", *RULES)


def test_each_alert_fires_and_stays_silent_as_promtool_computes_it() -> None:
    promtool("test", "rules", UNIT_TESTS)
    tested = [
        case for test in yaml.safe_load(UNIT_TESTS.read_text("utf-8"))["tests"] for case in test["alert_rule_test"]
    ]
    assert {each["alertname"] for each in tested if "exp_alerts" in each} == set(ALERTS)
    assert {each["alertname"] for each in tested if "exp_alerts" not in each} == set(ALERTS)


def test_the_rules_name_metrics_limits_and_records_that_exist() -> None:
    records = {rule["record"] for rule in rules() if "record" in rule}
    for rule in rules():
        assert unknown_metrics(rule["expr"]) == set(), rule
        assert set(re.findall(r"broadcaster:[\w:]+", rule["expr"])) <= records, rule
        for names in re.findall(r'limit=~?"([A-Z_|]+)"', rule["expr"]):
            assert set(names.split("|")) <= set(LIMITS), rule
    assert all(any(record in rule["expr"] for rule in ALERTS.values()) or is_part(record) for record in records)


def is_part(record: str) -> bool:
    """Whether another record needs it."""
    return any(record in rule["expr"] for rule in rules() if rule.get("record") not in (None, record))


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_severity_a_summary_and_a_runbook_with_what_to_do(name: str) -> None:
    alert = ALERTS[name]
    assert alert["for"]
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"]["summary"]
    page, _, section = alert["annotations"]["runbook"].partition("#")
    assert section == name.lower()
    text = (ROOT / page).read_text("utf-8")
    runbook = text.partition(f"\n#### {name}\n")[2].partition("\n#")[0]
    assert "**Look at**" in runbook
    assert "**Do**" in runbook
    assert f"`{alert['labels']['severity']}`" in runbook


def test_the_document_has_no_runbook_of_an_alert_that_is_gone() -> None:
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert set(re.findall(r"^#### (Broadcaster\w+)$", text, re.MULTILINE)) == set(ALERTS)


def test_quicker_rules_differ_in_their_durations_alone() -> None:
    durations = re.compile(r"(\[|for: )\d+(ms|[smh])")
    for path in RULES:
        text = path.read_text("utf-8")
        quick = quicker(text)
        assert durations.sub("", quick) == durations.sub("", text)
    assert (
        quicker("rate(a_5m[5m]) > 300 # for: 2h")
        == f"rate(a_5m[{300000 // TIMES}ms]) > 300 # for: {7200000 // TIMES}ms"
    )


def test_every_series_of_the_unit_tests_is_a_metric_of_ours_or_of_prometheus() -> None:
    text = UNIT_TESTS.read_text("utf-8")
    assert unknown_metrics(text.replace("Broadcaster", "")) == set()
    assert METRICS
