"""Commands that show: dashboard."""

from importlib.util import find_spec
from typing import Annotated

import typer

from pipeline.cli.output import Database, LogFormat, Model, note
from pipeline.errors import UsageError


def dashboard(
    database: Database = None,
    address: Annotated[str | None, typer.Option("--address", help="Where to listen. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option("--port", help="Default: 8501.")] = None,
    user_header: Annotated[
        str | None,
        typer.Option("--user-header", metavar="NAME", help="The header in which a proxy in front names the user."),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Serve other machines though nobody asks who is there.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also run `oodwatch explain --serve`: where in an image it is strange.")
    ] = False,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Pages without pictures: none leaves the database.")
    ] = False,
    model: Model = None,
    log_format: LogFormat = None,
) -> None:
    """Show what is wrong, since when, where and how bad, in a browser.

    Reads the database; all that is written are decisions of people, as
    acknowledge and note. On PostgreSQL the role oodwatch_reader is enough to
    look; the setting dashboard.operator_database names a login of the role
    oodwatch_operator for the buttons. Listens on this machine alone unless --address
    says otherwise: then a proxy in front has to sign people in, and to name
    them in --user-header (setting dashboard.proxy_secret_file), or they sign
    in here by OpenID Connect (settings [dashboard.oidc]). /livez and /readyz
    are for probes.

    Example: oodwatch dashboard --database sqlite:///oodwatch.db
    """
    if find_spec("streamlit") is None:
        raise UsageError("the dashboard's libraries are not installed; run `pip install 'oodwatch[dashboard]'`")
    from pipeline.assembly.parts import settings_from
    from pipeline.assembly.showing import show_dashboard
    from pipeline.telemetry.logs import configure_logging

    settings = settings_from(database=database, model=model, log_format=log_format)
    given = {"address": address, "port": port, "user_header": user_header, "insecure": insecure or None}
    given["images"] = False if no_images else None
    chosen = settings.dashboard.model_copy(update={name: value for name, value in given.items() if value is not None})
    settings = settings.model_copy(update={"dashboard": chosen})
    configure_logging(settings.log.format, settings.log.level)
    show_dashboard(settings, explains=explain, say=lambda where: note(f"the dashboard is at {where}; Ctrl-C ends it"))
