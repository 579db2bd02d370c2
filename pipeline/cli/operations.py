"""Commands for those who run it: health, doctor."""

from typing import Annotated, Any

import typer

from pipeline.cli.output import Database, Device, Dtype, Json, Model, Source, print_json, print_lines
from pipeline.errors import EnvironmentFault, UsageError

_PROBE_TIMEOUT_S = 3.0


def health(
    live: Annotated[bool, typer.Option("--live", help="Ask the process here whether it makes progress.")] = False,
    ready: Annotated[bool, typer.Option("--ready", help="Ask the process here whether records move.")] = False,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Ask there, as http://host:9108. Default: as configured.")
    ] = None,
    database: Database = None,
    as_json: Json = False,
) -> None:
    """How running processes are: all that beat in the database, or with --live or --ready the one here.

    Exit code 0: yes, or at least one process beats; 4: no.

    Example: oodwatch health --live
    """
    if url is not None and database is not None:
        raise UsageError("--url asks one process, --database lists all; give one of them")
    if live or ready or url is not None:
        _probe(url or _local_url(), "livez" if live else "readyz", as_json)
        return
    from pipeline.assembly.overview import read_processes
    from pipeline.assembly.parts import settings_from

    lines = read_processes(settings_from(database=database))
    print_lines(lines, as_json=as_json, empty="no process runs on this database")
    if all(line.status == "silent" for line in lines):
        raise typer.Exit(EnvironmentFault.exit_code)


def doctor(
    source: Source = None,
    database: Database = None,
    model: Model = None,
    reference: Annotated[str | None, typer.Option(metavar="NAME", help="The reference to look for.")] = None,
    device: Device = None,
    dtype: Dtype = None,
    as_json: Json = False,
) -> None:
    """Check all that a worker here would need; say what is wrong and the cure.

    Changes nothing. Exit code 0: no check failed, 2: something is configured wrongly, 4: something does not answer.

    Example: oodwatch doctor --source spool:spool/images --model models/resnet20
    """
    from pipeline.assembly.parts import settings_from
    from pipeline.doctor.examination import examine, exit_code

    settings = settings_from(
        source=source,
        database=database,
        model=model,
        reference=reference,
        device=device,
        dtype=dtype,
    )
    findings = []
    for finding in examine(settings):
        findings.append(finding)
        if as_json:
            print_json(finding.as_dict())
        else:
            typer.echo(finding.as_text())
    if code := exit_code(findings):
        raise typer.Exit(code)


def _local_url() -> str:
    from pipeline.settings import load_settings
    from pipeline.telemetry.probe import Address

    address = Address.parse(load_settings().http.listen)
    if address is None:
        raise UsageError("the HTTP server is off ([http] listen); turn it on, or name a process with --url")
    return address.url


def _probe(base: str, path: str, as_json: bool) -> None:
    from pipeline.telemetry.probe import ask

    status, answer = ask(f"{base.rstrip('/')}/{path}", timeout_s=_PROBE_TIMEOUT_S)
    ok = status == 200
    if as_json:
        print_json(answer)
    else:
        reasons: list[Any] = answer.get("reasons", [])
        typer.echo("ok" if ok else "\n".join(map(str, reasons)) or f"status {status}")
    if not ok:
        raise typer.Exit(EnvironmentFault.exit_code)
