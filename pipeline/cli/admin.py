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


def migrate(database: Database = None) -> None:
    """Bring a database to the newest revision. SQLite files are migrated by themselves on first use.

    Example: oodwatch migrate --database postgresql+psycopg://oodwatch@db/oodwatch
    """
    from pipeline.assembly.parts import settings_from
    from pipeline.storage.engine import HEAD_REVISION, current_revision, make_engine, translated_errors
    from pipeline.storage.migrations.run import upgrade

    engine = make_engine(settings_from(database=database).database_url)
    with translated_errors(engine.url):
        before = current_revision(engine)
        if before == "":
            raise UsageError(f"{engine.url} holds tables that are not oodwatch's; name another with --database")
        if before is not None and before > HEAD_REVISION:
            raise UsageError(f"{engine.url} is of revision {before}, newer than this release ({HEAD_REVISION})")
        upgrade(engine)
    note(f"{engine.url}: revision {before or 'none'} -> {HEAD_REVISION}")
