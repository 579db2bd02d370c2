"""Samples for whoever labels them: export samples."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.cli.output import Database, Deployment, Source, note
from pipeline.errors import UsageError


def export_samples(
    out: Annotated[Path, typer.Option("--out", help="The zip to write.")],
    since: Annotated[str, typer.Option("--from", metavar="ISO", help="Event time, inclusive.")],
    until: Annotated[str, typer.Option("--to", metavar="ISO", help="Event time, exclusive.")],
    segment: Annotated[str | None, typer.Option("--segment", help="Only of this segment.")] = None,
    which: Annotated[Literal["unusual", "normal", "all"], typer.Option("--which", help="By the flag.")] = "unusual",
    order: Annotated[Literal["strangest", "newest"], typer.Option("--order", help="Which come first.")] = "strangest",
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, metavar="N", help="At most so many.")] = 200,
    source: Source = None,
    database: Database = None,
    deployment: Deployment = None,
) -> None:
    """Write samples as a zip to label: a folder of images, manifest.csv, and COCO with no annotation yet.

    Thumbnails; with --source the originals as PNG, of those that the log still holds. COCO's categories are the
    model's classes, its class and what people said of an image are attributes. The same samples give the same bytes.

    Example: oodwatch export samples --from 2026-11-24T00:49Z --to 2026-11-24T03:00Z --out samples.zip
    """
    from pipeline.assembly.originals import LogOriginals
    from pipeline.assembly.parts import open_database_of, settings_from
    from pipeline.assembly.sources import check_window, parse_time
    from pipeline.cli.files import written_whole
    from pipeline.reports.labelling import choose, labelling_zip
    from pipeline.storage.engine import reading, translated_errors
    from pipeline.storage.monitoring import one_deployment
    from pipeline.storage.references import reference_by_key
    from pipeline.storage.reviews import newest_reviews
    from pipeline.storage.sample_pages import read_pictures
    from pipeline.storage.ticks import segment_names

    settings = settings_from(database=database, deployment=deployment, source=source)
    window = parse_time("--from", since), parse_time("--to", until)
    check_window(*window)
    engine = open_database_of(settings, create=False)
    with translated_errors(engine.url), reading(engine).connect() as conn:
        found = one_deployment(conn, settings.deployment)
        classes = reference_by_key(conn, found.reference_id).classes
        names = segment_names(conn, found.id)
        segments = [key for key, name in names.items() if segment in (None, name)]
        if segment is not None and not segments:
            raise UsageError(f"--segment {segment!r}: known are {', '.join(sorted(names.values())) or 'none'}")
        flagged = None if which == "all" else which == "unusual"
        samples = read_pictures(conn, found.id, window, segments=segments, flagged=flagged, order=order, limit=limit)
        said = newest_reviews(conn, [one.id for one in samples])
    url = settings.source.url
    originals = None if url is None else LogOriginals(settings, url, engine).read_all([one.id for one in samples])
    with written_whole(out, "choose another place with --out") as partial:
        partial.write_bytes(labelling_zip(choose(samples, classes, said, originals), classes))
    note(f"wrote {len(samples):,} samples to {out}, {len(originals or {}):,} of them originals")
