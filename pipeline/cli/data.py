"""Commands about records and rows: produce, ledger, dead-letters, export, forget."""

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.output import (
    Database,
    Deployment,
    Json,
    Source,
    Timeout,
    note,
    print_json,
    print_lines,
    progress_bar,
)
from pipeline.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from pipeline.records import Partition
    from pipeline.settings import Settings
    from pipeline.storage.forgetting import Subject


def produce(
    images: Annotated[list[Path], typer.Argument(help="Files and folders; every regular file is sent, image or not.")],
    source: Source = None,
    segment_from_folder: Annotated[
        bool, typer.Option("--segment-from-folder", help="Segment = the file's parent folder.")
    ] = False,
    segment: Annotated[str | None, typer.Option(help="One segment for all.")] = None,
    label_from_folder: Annotated[
        bool, typer.Option("--label-from-folder", help="Ground truth = the file's parent folder.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="N", help="Records a second. Default: as fast as it goes.")
    ] = None,
    repeat: Annotated[int, typer.Option(min=1, metavar="N", help="Send everything so many times.")] = 1,
    partitions: Annotated[int | None, typer.Option(min=1, metavar="N", help="Of a new topic; default 1.")] = None,
    start: Annotated[
        str | None,
        typer.Option(metavar="ISO", help="Event time of the first record. Default: when it is sent."),
    ] = None,
    interval: Annotated[float, typer.Option(metavar="S", help="Seconds between event times, with --start.")] = 1.0,
    header: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="One more header; repeatable.")] = None,
    keep_hours: Annotated[float | None, typer.Option(help="Delete older records from the spool.")] = None,
    keep_megabytes: Annotated[float | None, typer.Option(help="Delete the oldest records beyond this size.")] = None,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Send images to a log. A record's id is its path below the argument that named it.

    To Kafka with an idempotent producer that waits for all in-sync brokers; what they refuse is listed.

    Example: oodwatch produce photos --source spool:spool/images --segment-from-folder --rate 20
    """
    from datetime import timedelta

    from pipeline.assembly.parts import required_source, settings_from
    from pipeline.assembly.sources import open_appender, parse_time
    from pipeline.ingest.image_files import find_regular_files
    from pipeline.ingest.produce import ProducePlan, messages, send
    from pipeline.ingest.source import NewRecord
    from pipeline.ingest.spool import Retention, Spool
    from pipeline.records import utc_now

    if segment is not None and segment_from_folder:
        raise UsageError("--segment and --segment-from-folder exclude each other; give one")
    if rate is not None and rate <= 0:
        raise UsageError(f"--rate {rate}: must be above 0")
    plan = ProducePlan(
        segment=segment,
        segment_from_folder=segment_from_folder,
        label_from_folder=label_from_folder,
        repeat=repeat,
        start=None if start is None else parse_time("--start", start),
        interval_s=interval,
        headers=tuple(_header(text) for text in header or ()),
    )
    files = find_regular_files(images)
    if not files:
        raise UsageError(f"{', '.join(map(str, images))}: no file in it")
    settings = settings_from(source=source)
    retention = Retention(
        max_age=None if keep_hours is None else timedelta(hours=keep_hours),
        max_bytes=None if keep_megabytes is None else int(keep_megabytes * 2**20),
    )
    failed: list[tuple[str, str]] = []

    def refused(record: NewRecord, why: str) -> None:
        failed.append(((dict(record.headers).get("id") or b"?").decode(), why))

    log = open_appender(
        required_source(settings),
        settings.source.kafka,
        partitions=partitions,
        timeout_s=timeout,
        on_refused=refused,
    )
    try:
        if retention != Retention() and not isinstance(log, Spool):
            raise UsageError("--keep-*: a Kafka topic has its own retention; see `oodwatch topics ensure`")
        with progress_bar("sending", len(files) * repeat) as bar:
            result = send(
                messages(files, plan, on_failure=lambda file, why: failed.append((file, why))),
                log.append,
                rate=rate,
                clock=time.monotonic,
                sleep=time.sleep,
                progress=lambda sent, _bytes: bar.set(sent),
            )
        if isinstance(log, Spool):
            log.apply_retention(retention, now=utc_now())
    finally:
        log.close()
    for file, why in failed:
        note(f"{file}: {why}")
    if as_json:
        print_json({"sent": result.sent, "bytes": result.bytes, "seconds": result.seconds, "failed": len(failed)})
    else:
        typer.echo(f"sent {result.sent:,} records, {result.bytes:,} bytes, in {result.seconds:.1f} s")
    if failed:
        raise typer.Exit(1)


def ledger(
    database: Database = None,
    source: Source = None,
    deployment: Deployment = None,
    timeout: Timeout = 10.0,
    as_json: Json = False,
) -> None:
    """Account for every offset: produced = scored + dead + waiting + expired + skipped + holes.

    Expired is what the log lost before it was read: deleted by its retention, or damaged. Holes hold no
    image: transaction markers, aborted records, what compaction removed.

    With a source, the log is asked for its end; without, the end is as the worker last saw it.

    Example: oodwatch ledger --source spool:spool/images
    """
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.storage.deployments import check_deployment
    from pipeline.storage.engine import reading, translated_errors
    from pipeline.storage.streams import ledger as stored_ledger

    settings = settings_from(database=database, source=source, deployment=deployment)
    log_ends = {} if settings.source.url is None else _log_ends(settings, timeout)
    engine = open_database_of(settings, create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        check_deployment(conn, settings.deployment)
        lines = stored_ledger(conn, deployment=settings.deployment, log_ends=log_ends)
    print_lines(lines, as_json=as_json, empty="no stream yet; start `oodwatch worker`")


def dead_letters(
    database: Database = None,
    deployment: Deployment = None,
    reason: Annotated[str | None, typer.Option(help="Only this reason, as undecodable.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many.")] = None,
    as_json: Json = False,
) -> None:
    """List records that could not be scored, newest first, and why. Their bytes stay in the log at these coordinates.

    Example: oodwatch dead-letters --reason checksum
    """
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.records import Reason
    from pipeline.storage.deployments import check_deployment
    from pipeline.storage.engine import reading, translated_errors
    from pipeline.storage.scores import dead_letters as stored_dead_letters

    if reason is not None and reason not in {str(known) for known in Reason}:
        raise UsageError(f"--reason {reason!r}: known are {', '.join(Reason)}")
    settings = settings_from(database=database, deployment=deployment)
    engine = open_database_of(settings, create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        check_deployment(conn, settings.deployment)
        lines = stored_dead_letters(conn, deployment=settings.deployment, reason=reason, limit=limit)
        print_lines(lines, as_json=as_json, empty="no dead letters")


def export_scores(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    file_format: Annotated[Literal["csv", "parquet"], typer.Option("--format")] = "csv",
    database: Database = None,
    deployment: Deployment = None,
    since: Annotated[str | None, typer.Option("--from", metavar="ISO", help="Event time, inclusive.")] = None,
    until: Annotated[str | None, typer.Option("--to", metavar="ISO", help="Event time, exclusive.")] = None,
) -> None:
    """Write one row per scored image.

    Example: oodwatch export scores --format csv --out scores.csv
    """
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.assembly.sources import check_window, parse_time
    from pipeline.cli.exporting import write_scores
    from pipeline.storage.deployments import check_deployment
    from pipeline.storage.engine import reading, translated_errors
    from pipeline.storage.scores import exported_scores

    settings = settings_from(database=database, deployment=deployment)
    start = None if since is None else parse_time("--from", since)
    end = None if until is None else parse_time("--to", until)
    check_window(start, end)
    engine = open_database_of(settings, create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        check_deployment(conn, settings.deployment)
        rows = exported_scores(
            conn,
            deployment=settings.deployment,
            start=start,
            end=end,
        )
        with progress_bar("exporting", None) as bar:
            count = write_scores(rows, out, file_format, bar.advance)
    note(f"wrote {count:,} rows to {out}")


def forget(
    record_id: Annotated[str | None, typer.Option("--id", help="Everything of this record id.")] = None,
    key: Annotated[str | None, typer.Option("--key", help="Everything of this message key.")] = None,
    segment: Annotated[str | None, typer.Option("--segment", help="Everything of this segment.")] = None,
    source: Source = None,
    database: Database = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Erase a person's images: value in the spool, thumbnail, features, masks, id, key, hash. The anonymous row stays.

    Reads whole tables: minutes on a large database. Running it again is harmless.

    Example: oodwatch forget --id cam-7/0042.jpg --source spool:spool/images --yes
    """
    from pipeline.assembly.explaining import embedding_cache
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.cli.forgetting import Erasure, erase

    named: tuple[tuple[Subject, str | None], ...] = (("id", record_id), ("key", key), ("segment", segment))
    chosen = [(subject, value) for subject, value in named if value]
    if len(chosen) != 1:
        raise UsageError("name exactly one of --id, --key and --segment")
    ((subject, value),) = chosen
    settings = settings_from(database=database, source=source)
    engine = open_database_of(settings, create=False)
    if not yes:
        typer.confirm(f"Erase everything with {subject} {value!r}? This cannot be undone", abort=True)
    erased: Erasure = erase(engine, settings.source.url, subject, value, embedding_cache(settings))
    if as_json:
        print_json(dataclasses.asdict(erased))
    else:
        typer.echo(
            f"erased: {erased.log_values} values in the log, {erased.scores} rows made anonymous,"
            f" {erased.dead_letters} dead letters, {erased.samples} samples,"
            f" {erased.explanations} explanations, {erased.embeddings} embeddings"
        )
        for place in erased.copies_remain:
            typer.echo(f"copies remain: {place}")


def _log_ends(settings: "Settings", timeout_s: float) -> "dict[Partition, int]":
    """Where each partition ends now; nothing, with a word, where the log does not answer."""
    from pipeline.assembly.parts import required_source
    from pipeline.assembly.sources import open_topic

    topic = open_topic(required_source(settings), settings.source.kafka, timeout_s=timeout_s)
    try:
        return {bounds.partition: bounds.end for bounds in topic.bounds()}
    except EnvironmentFault as error:
        note(f"the log does not answer ({error}); `waiting` is as the worker last saw it")
        return {}
    finally:
        topic.close()


def _header(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise UsageError(f"--header {text!r}: write NAME=VALUE")
    return name, value
