"""Commands that set up: init, migrate."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.files import written_whole
from pipeline.cli.output import Database, note
from pipeline.errors import UsageError


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("oodwatch.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
) -> None:
    """Write a commented settings file; every line shows a default.

    Example: oodwatch init
    """
    from pipeline.settings import TEMPLATE

    if path.exists() and not force:
        raise UsageError(f"{path} exists; add --force to replace it")
    with written_whole(path, "name another place") as partial:
        partial.write_text(TEMPLATE, encoding="utf-8")
    note(f"wrote {path}")


def migrate(
    database: Database = None,
    roles: Annotated[
        bool,
        typer.Option("--roles", help="PostgreSQL: also make oodwatch_writer, _reader and _operator and grant to them."),
    ] = False,
) -> None:
    """Bring a database to the newest revision.
    A new SQLite file is made by itself on first use; one of an older release
    is refused until this command has brought it up to date.

    The roles are groups without login: afterwards GRANT oodwatch_writer TO the worker's own role, and
    oodwatch_reader to the dashboard's. Give --roles again after each release.

    Example: oodwatch migrate --roles --database postgresql+psycopg://owner@db/oodwatch
    """
    from pipeline.assembly.parts import settings_from
    from pipeline.records import utc_now
    from pipeline.storage.engine import HEAD_REVISION, current_revision, make_engine, shown, translated_errors
    from pipeline.storage.migrations.run import upgrade
    from pipeline.storage.partitions import ensure_days_ahead
    from pipeline.storage.roles import grant_roles

    engine = make_engine(settings_from(database=database).database_url)
    where = shown(engine.url)
    with translated_errors(engine.url):
        before = current_revision(engine)
        if before == "":
            raise UsageError(f"{where} holds tables that are not oodwatch's; name another with --database")
        if before is not None and before > HEAD_REVISION:
            raise UsageError(f"{where} is of revision {before}, newer than this release ({HEAD_REVISION})")
        upgrade(engine)
        with engine.begin() as conn:
            ensure_days_ahead(conn, now=utc_now())
            if roles:
                grant_roles(conn)
    engine.dispose()
    note(f"{where}: revision {before or 'none'} -> {HEAD_REVISION}")
