"""The dashboard is the one that its table describes, and its queries name nothing that only one deployment has."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from tests.deploy.files import DEPLOY
from tests.deploy.monitoring.dashboard import text
from tests.deploy.monitoring.names import unknown_metrics

DASHBOARD: Final = DEPLOY / "grafana" / "broadcaster.json"


def load() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(DASHBOARD.read_text("utf-8"))
    return loaded


def test_the_committed_dashboard_is_the_one_that_the_table_describes() -> None:
    remedy = "python -m tests.deploy.monitoring.dashboard > deploy/grafana/broadcaster.json"
    assert DASHBOARD.read_text("utf-8") == text(), remedy


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    panels = load()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_queries_choose_data_source_and_job_by_variables_and_name_metrics_that_exist() -> None:
    dashboard = load()
    variables = {each["name"]: each["type"] for each in dashboard["templating"]["list"]}
    assert variables == {"datasource": "datasource", "job": "query"}
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] == "${datasource}"
        for target in panel["targets"]:
            query = target["expr"]
            assert unknown_metrics(query) == set(), query
            assert query.count("broadcaster_") == query.count('job=~"$job"'), query
            assert not re.search(r"127\.0\.0\.1|localhost|instance=", query), query
