import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from pipeline.telemetry.catalogue import families, series
from pipeline.telemetry.grafana import grafana_dashboard
from pipeline.telemetry.rules import RULES, prometheus_rules
from tests.faults.scored import NOW

PROMTOOL = shutil.which("promtool")


def names(expression: str) -> set[str]:
    return set(re.findall(r"oodwatch_[a-z_]+", expression))


def test_every_rule_asks_for_metrics_that_exist() -> None:
    known = set(series(families(NOW)))
    asked = {name for rule in RULES for name in names(rule.expression)}
    assert len(asked) == 11
    assert asked <= known


def test_every_panel_asks_for_metrics_that_exist_and_every_metric_has_one() -> None:
    known = families(NOW)
    panels = json.loads(grafana_dashboard(known))["panels"]
    asked = {name for panel in panels for target in panel.get("targets", ()) for name in names(target["expr"])}
    assert asked <= set(series(known))
    shown = {family.name for family in known if any(name in asked for name in family.series)}
    assert shown == {family.name for family in known if family.kind != "info"}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_the_rule_file_is_yaml_with_all_rules_as_they_are_meant() -> None:
    (group,) = yaml.safe_load(prometheus_rules())["groups"]
    assert [rule["alert"] for rule in group["rules"]] == [rule.name for rule in RULES]
    for written, rule in zip(group["rules"], RULES, strict=True):
        assert written["expr"] == rule.expression
        assert written["for"] == rule.hold
        assert written["labels"] == {"severity": rule.severity}
        assert written["annotations"]["summary"] == rule.summary


def test_promtool_takes_the_rule_file(tmp_path: Path) -> None:
    if PROMTOOL is None:
        pytest.skip("promtool is not installed (Debian package prometheus)")
    file = tmp_path / "oodwatch.rules.yml"
    file.write_text(prometheus_rules())
    ran = subprocess.run([PROMTOOL, "check", "rules", file], capture_output=True, text=True, check=False)
    assert f"SUCCESS: {len(RULES)} rules found" in ran.stdout + ran.stderr
