import csv
import io
from dataclasses import fields
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq

from pipeline.reports.tables import FLAGGED, SERIES, as_csv, as_parquet, flagged_table, series_table
from pipeline.storage.scores import ExportedScore
from pipeline.storage.series import Bucket

T0 = datetime(2026, 11, 24, 0, 49, tzinfo=UTC)
STEP = timedelta(minutes=5)
BUCKETS = [
    Bucket(7, T0 + STEP, 10, 1, 0.0, 0.5, 2),
    Bucket(0, T0, 30, 3, 0.05, 0.2, 0),
    Bucket(7, T0, 20, 2, 0.1, 0.1, 1),
]


def test_a_series_is_written_by_time_and_segment_with_times_in_utc() -> None:
    text = as_csv(series_table(BUCKETS, {7: 'a "b", <c>'}, STEP, {})).decode()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == [column.name for column in SERIES]
    assert [row[:5] for row in rows[1:]] == [
        ["2026-11-24T00:49:00Z", "5", "", "30", "3"],
        ["2026-11-24T00:49:00Z", "5", 'a "b", <c>', "20", "2"],
        ["2026-11-24T00:54:00Z", "5", 'a "b", <c>', "10", "1"],
    ]


def test_parquet_has_types_the_zone_and_what_its_columns_say() -> None:
    table = pq.read_table(io.BytesIO(as_parquet(series_table(BUCKETS, {7: "a"}, STEP, {"deployment": "d"}))))
    assert str(table.schema.field("start").type) == "timestamp[us, tz=UTC]"
    assert table.schema.field("share").metadata[b"description"] == b"unusual / n"
    assert table.schema.metadata[b"deployment"] == b"d"
    assert table["start"].to_pylist() == [T0, T0, T0 + STEP]
    assert table["share"].to_pylist() == [0.1, 0.1, 0.1]


def test_flagged_images_have_the_columns_of_the_export_of_all() -> None:
    assert [column.name for column in FLAGGED] == [field.name for field in fields(ExportedScore)]
    one = ExportedScore("d", "t", "i", 0, 5, T0, None, "s", None, 1, -3.5, -3.5, 0.4, True, "ab", "m@0", "r")
    text = as_csv(flagged_table([one], {})).decode().splitlines()
    assert text[1] == "d,t,i,0,5,2026-11-24T00:49:00Z,,s,,1,-3.5,-3.5,0.4,1,ab,m@0,r"
    assert pq.read_table(io.BytesIO(as_parquet(flagged_table([one], {}))))["is_ood"].to_pylist() == [True]


def test_a_table_of_nothing_still_has_its_columns() -> None:
    assert as_csv(flagged_table([], {})).decode().startswith("deployment,topic,")
    assert pq.read_table(io.BytesIO(as_parquet(series_table([], {}, STEP, {})))).num_rows == 0
