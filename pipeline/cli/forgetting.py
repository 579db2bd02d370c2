"""Erase from the log first, then from the database: until all is done, the same command finds it again."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from sqlalchemy import Engine

from pipeline.ingest.message import identity
from pipeline.ingest.spool import SpoolTopic, parse_spool_url
from pipeline.localization.embeddings import EmbeddingCache
from pipeline.records import Record
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.forgetting import Coordinates, Subject, coordinates_of, forget


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was erased, and where copies may remain."""

    log_values: int
    scores: int
    dead_letters: int
    samples: int
    explanations: int
    embeddings: int  # of segmenters, in this machine's state directory
    copies_remain: tuple[str, ...]


def erase(engine: Engine, source_url: str | None, subject: Subject, value: str, embeddings: EmbeddingCache) -> Erasure:
    """Erase everything that carries this id, key or segment."""
    with translated_errors(engine.url), reading(engine).connect() as conn:
        found = set(coordinates_of(conn, subject, value))
    log_values = 0
    if source_url is not None and not source_url.startswith("kafka:"):
        log = SpoolTopic(*parse_spool_url(source_url))
        found |= set(_in_log(log.records(), subject, value))
        topic_id = log.topic_id()
        log_values = log.erase((at.partition, at.offset) for at in found if at.topic_id == topic_id)
    with translated_errors(engine.url), engine.begin() as conn:
        counts = forget(conn, sorted(found))
        embedded = sum(embeddings.erase(sha256) for sha256 in counts.values)  # once committed, the hashes are gone
    if engine.dialect.name == "sqlite":
        with translated_errors(engine.url), engine.connect() as conn:
            # Outside a transaction: erased pages leave the write-ahead log, too.
            conn.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Erasure(
        log_values=log_values,
        scores=counts.scores,
        dead_letters=counts.dead_letters,
        samples=counts.samples,
        explanations=counts.explanations,
        embeddings=embedded,
        copies_remain=_copies(source_url, bool(found)),
    )


def _in_log(records: Iterable[Record], subject: Subject, value: str) -> Iterator[Coordinates]:
    """Also what is not scored yet, and what could not be read."""
    for record in records:
        record_id, segment = identity(record)
        key = None if record.key is None else record.key.decode("utf-8", "replace")
        if value == {"id": record_id, "key": key, "segment": segment}[subject] and record.headers:
            place = record.partition
            yield Coordinates(place.topic, place.topic_id, place.number, record.offset)


def _copies(source_url: str | None, anything: bool) -> tuple[str, ...]:
    places = [] if source_url is not None else ["the log: run this again with --source"]
    if source_url is not None and source_url.startswith("kafka:"):
        places.append(
            f"{source_url}: Kafka erases no single record; its value, and what was not scored yet, stay until the"
            " topic's retention deletes them (`oodwatch topics ensure` shows it). At once: DeleteRecords up to its"
            " offset removes it with everything older; in a compacted topic, a record with the same key and no value"
        )
    if anything:
        places.append(
            "backups of database and log, exported files, what `oodwatch explain` cached on other machines,"
            " and whatever produced the images"
        )
    return tuple(places)
