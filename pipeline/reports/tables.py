"""Tables that leave as files: CSV with times in ISO 8601, UTC, or Parquet; what a column means goes with it. Pure."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pipeline.errors import UsageError
from pipeline.shift.folding import POOLED
from pipeline.storage.scores import ExportedScore
from pipeline.storage.series import Bucket

Kind = Literal["time", "text", "integer", "number", "flag"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and what it says."""

    name: str
    kind: Kind
    says: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows in the order of the columns; `about` goes into a Parquet file's metadata."""

    columns: Sequence[Column]
    rows: Sequence[tuple[Any, ...]]
    about: Mapping[str, str]


SERIES = (
    Column("start", "time", "start of the step, inclusive, event time"),
    Column("minutes", "integer", "length of the step"),
    Column("segment", "text", "part of the traffic; empty: all of it that is in view"),
    Column("n", "integer", "scored images; a step without one has no row"),
    Column("unusual", "integer", "of them, flagged: score above the threshold of their reference"),
    Column("share", "number", "unusual / n"),
    Column("lowest", "number", "the lowest share of a stored tick within the step"),
    Column("highest", "number", "the highest one"),
    Column("repeats", "integer", "images with the same bytes as their segment's previous one"),
)

FLAGGED = (
    Column("deployment", "text", "model on a source"),
    Column("topic", "text", "log that the image came from"),
    Column("topic_id", "text", "which incarnation of the topic"),
    Column("partition", "integer", "of the topic"),
    Column("offset", "integer", "of the record: with topic and partition where the original lies"),
    Column("event_time", "time", "when the image was taken, as its message says"),
    Column("id", "text", "the message's own, if it has one"),
    Column("segment", "text", "part of the traffic"),
    Column("label", "text", "ground truth, if known"),
    Column("class_index", "integer", "predicted class, by its place in the model's list"),
    Column("energy", "number", "nats; higher is more unusual"),
    Column("score", "number", "nats; what the threshold is held against"),
    Column("msp", "number", "largest softmax probability"),
    Column("is_ood", "flag", "score above the threshold"),
    Column("value_sha256", "text", "of the message's bytes, hexadecimal"),
    Column("model", "text", "name@hash"),
    Column("reference", "text", "what was taken for normal"),
)


def series_table(
    buckets: Sequence[Bucket], names: Mapping[int, str], step: timedelta, about: Mapping[str, str]
) -> Table:
    """Counts by step and segment, in the order of time."""
    minutes = step // timedelta(minutes=1)
    rows = [
        (
            one.start,
            minutes,
            "" if one.segment_id == POOLED else names.get(one.segment_id, str(one.segment_id)),
            one.n,
            one.flags,
            one.share,
            one.low,
            one.high,
            one.repeats,
        )
        for one in buckets
    ]
    return Table(SERIES, sorted(rows, key=lambda row: (row[0], row[2])), about)


def flagged_table(rows: Sequence[ExportedScore], about: Mapping[str, str]) -> Table:
    """Flagged images, in the order that they were given."""
    return Table(FLAGGED, [tuple(getattr(one, column.name) for column in FLAGGED) for one in rows], about)


def as_csv(table: Table) -> bytes:
    """A header and one line a row; what is not known is empty, flags are 0 and 1."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow([column.name for column in table.columns])
    writers = [_WRITE.get(column.kind, _same) for column in table.columns]
    for row in table.rows:
        writer.writerow(["" if value is None else write(value) for write, value in zip(writers, row, strict=True)])
    return out.getvalue().encode()


def as_parquet(table: Table) -> bytes:
    """The same, typed; what columns say stands in their metadata. Raises UsageError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow; run `pip install 'oodwatch[parquet]'` or take CSV") from error
    kinds = {
        "time": pa.timestamp("us", "UTC"),
        "text": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
    }
    fields = [
        pa.field(column.name, kinds[column.kind], metadata={"description": column.says}) for column in table.columns
    ]
    columns = {column.name: [row[at] for row in table.rows] for at, column in enumerate(table.columns)}
    out = io.BytesIO()
    pq.write_table(pa.table(columns, schema=pa.schema(fields, metadata=dict(table.about))), out)
    return out.getvalue()


def iso(at: datetime) -> str:
    """ISO 8601 in UTC, with Z."""
    return at.isoformat().replace("+00:00", "Z")


def _same(value: Any) -> Any:
    return value


_WRITE: Mapping[Kind, Callable[[Any], Any]] = {"time": iso, "flag": int}
