"""A dashboard for Grafana: a panel for every metric, made from the metrics themselves."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.telemetry.catalogue import Family

_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 3
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_UNITS = {"seconds": "s", "bytes": "bytes"}
_QUANTILES = (0.5, 0.95)


def grafana_dashboard(families: Sequence[Family]) -> str:
    """The dashboard's JSON, to be imported; its data source is chosen there."""
    dashboard = {
        "uid": "oodwatch",
        "title": "oodwatch",
        "tags": ["oodwatch"],
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]
        },
        "panels": list(_panels(families)),
    }
    return json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n"


def expressions(family: Family) -> dict[str, str]:
    """PromQL by legend: rates of counters, quantiles of histograms; nothing of what never changes."""
    if family.kind == "counter":
        return {"__auto": f"rate({family.name}_total[5m])"}
    if family.kind == "histogram":
        return {
            f"{quantile:.0%}": f"histogram_quantile({quantile}, sum by (le) (rate({family.name}_bucket[5m])))"
            for quantile in _QUANTILES
        }
    if family.kind == "gauge":
        since = f"time() - {family.name}" if family.name.endswith("_timestamp_seconds") else family.name
        return {"__auto": since}
    return {}


def _panels(families: Sequence[Family]) -> Iterator[dict[str, Any]]:
    key, y = 0, 0
    for role in dict.fromkeys(family.role for family in families):
        mine = [family for family in families if family.role == role and expressions(family)]
        key += 1
        yield {"id": key, "type": "row", "title": role, "gridPos": {"x": 0, "y": y, "w": 24, "h": 1}, "panels": []}
        y += 1
        for at, family in enumerate(mine):
            key += 1
            x, row = at % _COLUMNS * _WIDTH, at // _COLUMNS
            yield _panel(key, family, {"x": x, "y": y + row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT})
        y += -(-len(mine) // _COLUMNS) * _HEIGHT


def _panel(key: int, family: Family, place: dict[str, int]) -> dict[str, Any]:
    rate = family.kind == "counter"
    return {
        "id": key,
        "type": "timeseries",
        "title": _title(family),
        "description": family.documentation,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": "cps" if rate else _UNITS.get(family.unit, "short")}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": _SOURCE, "expr": expression, "legendFormat": legend}
            for at, (legend, expression) in enumerate(expressions(family).items())
        ],
    }


def _title(family: Family) -> str:
    words = family.name.removeprefix("oodwatch_").removesuffix("_timestamp_seconds").replace("_", " ")
    return (
        f"{words}, a second" if family.kind == "counter" else f"{words}: age" if "timestamp" in family.name else words
    )
