"""The command rules export: what Prometheus and Grafana need, made from the metrics."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.output import note
from pipeline.errors import UsageError


def export(
    kind: Annotated[Literal["prometheus", "grafana"], typer.Argument(help="Alert rules, or a dashboard.")],
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Default: stdout.")] = None,
) -> None:
    """Write alert rules (YAML) for Prometheus or a dashboard (JSON) for Grafana.

    The rules are about oodwatch itself; shifts are told by the monitor.

    Example: oodwatch rules export prometheus --out oodwatch.rules.yml
    """
    from pipeline.records import utc_now
    from pipeline.telemetry.catalogue import families
    from pipeline.telemetry.grafana import grafana_dashboard
    from pipeline.telemetry.rules import prometheus_rules

    text = prometheus_rules() if kind == "prometheus" else grafana_dashboard(families(utc_now()))
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error
    note(f"wrote {out}")
