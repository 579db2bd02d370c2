"""A database as six cameras have left it: two weeks of ticks and roll-ups, an incident, and its scores in bulk."""

from sqlalchemy import Engine, text

from pipeline.storage.engine import open_database
from pipeline.storage.partitions import ensure_days
from pipeline.storage.schema import to_microseconds
from tests.browser.seeded import END, seed

DAYS = 14
_US = 86_400_000_000
_FIRST_OFFSET = 1_000_000  # beyond those that the scene itself writes

_COLUMNS = (
    'stream_id, "offset", event_time, clock, segment_id, reference_id, id, "key", label, value_sha256, class_index,'
    " energy, score, msp, is_ood, repeat, drill, support"
)
#: Of image i: an even spread over the days, six segments in turn, one in fifty flagged, an id and a hash of its own.
_VALUES = {
    "sqlite": (
        "WITH RECURSIVE image(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM image WHERE i + 1 < :n)"
        " SELECT (SELECT MIN(id) FROM stream), :offset + i, :first + i * :step, 0, 1 + i % 6, :reference,"
        " 'image-' || i, NULL, NULL, CAST(printf('%032d', i) AS BLOB), i % 6, -12.0 + i % 90 * .1, -12.0 + i % 90 * .1,"
        " .9, i % 50 = 0, 0, 0, .7 FROM image"
    ),
    "postgresql": (
        "SELECT (SELECT MIN(id) FROM stream), :offset + i, :first + i * :step, 0, 1 + i % 6, :reference,"
        " 'image-' || i, NULL, NULL, decode(lpad(to_hex(i), 64, '0'), 'hex'), i % 6, -12.0 + i % 90 * .1,"
        " -12.0 + i % 90 * .1, .9, (i % 50 = 0)::int, 0, 0, .7 FROM generate_series(0::bigint, :n - 1) AS image(i)"
    ),
}


def fill(url: str, scores: int) -> None:
    """Fill the empty database."""
    seeded = seed(url, hours=24 * DAYS)
    engine = open_database(url)
    end = to_microseconds(END)
    with engine.begin() as conn:
        ensure_days(conn, range((end - DAYS * _US) // _US, end // _US + 1))
        conn.execute(
            text(f"INSERT INTO score ({_COLUMNS}) {_VALUES[engine.dialect.name]}"),
            {
                "n": scores,
                "offset": _FIRST_OFFSET,
                "first": end - DAYS * _US,
                "step": DAYS * _US // scores,
                "reference": seeded.reference_id,
            },
        )
    _settle(engine)
    engine.dispose()


def _settle(engine: Engine) -> None:
    """What autovacuum, and SQLite's own `PRAGMA optimize` in the worker, would have done long ago."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        conn.execute(text("ANALYZE" if engine.dialect.name == "sqlite" else "VACUUM ANALYZE"))
