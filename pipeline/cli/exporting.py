"""Rows → CSV or Parquet."""

import csv
import dataclasses
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from pipeline.cli.files import written_whole
from pipeline.cli.output import iso
from pipeline.errors import UsageError
from pipeline.storage.scores import ExportedScore

_CHUNK = 10_000
COLUMNS = tuple(field.name for field in dataclasses.fields(ExportedScore))


def write_scores(
    rows: Iterable[ExportedScore],
    out: Path,
    file_format: Literal["csv", "parquet"],
    progress: Callable[[int], None],
) -> int:
    """Write rows to `out`; return how many. Raises EnvironmentFault where the file cannot be written."""
    write = _write_csv if file_format == "csv" else _write_parquet
    with written_whole(out, "choose another place with --out") as partial:
        return write(rows, partial, progress)


def _write_csv(rows: Iterable[ExportedScore], out: Path, progress: Callable[[int], None]) -> int:
    count = 0
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for chunk in _chunks(rows):
            for row in chunk:
                values = [getattr(row, column) for column in COLUMNS]
                values[COLUMNS.index("event_time")] = iso(row.event_time)
                values[COLUMNS.index("is_ood")] = int(row.is_ood)
                writer.writerow(values)
            count += len(chunk)
            progress(len(chunk))
    return count


def _write_parquet(rows: Iterable[ExportedScore], out: Path, progress: Callable[[int], None]) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow; run `pip install 'oodwatch[parquet]'` or use --format csv") from error
    kinds = {
        "int": pa.int64(),
        "float": pa.float64(),
        "bool": pa.bool_(),
        "datetime": pa.timestamp("us", "UTC"),
    }
    names = {
        field.name: getattr(field.type, "__name__", str(field.type)) for field in dataclasses.fields(ExportedScore)
    }
    schema = pa.schema([(column, kinds.get(names[column], pa.string())) for column in COLUMNS])
    count = 0
    with pq.ParquetWriter(out, schema) as writer:
        for chunk in _chunks(rows):
            table: dict[str, list[Any]] = {column: [getattr(row, column) for row in chunk] for column in COLUMNS}
            writer.write_table(pa.table(table, schema=schema))
            count += len(chunk)
            progress(len(chunk))
    return count


def _chunks(rows: Iterable[ExportedScore]) -> Iterator[list[ExportedScore]]:
    iterator = iter(rows)
    for first in iterator:
        chunk = [first]
        for row in iterator:
            chunk.append(row)
            if len(chunk) == _CHUNK:
                break
        yield chunk
