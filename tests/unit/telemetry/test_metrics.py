import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from pipeline.records import Partition, Range, Record
from pipeline.stages.flow import Progress
from pipeline.stages.rows import Entry
from pipeline.storage.schema import to_microseconds
from pipeline.telemetry.health import Pulse, WorkerState
from pipeline.telemetry.metrics import MAX_SEGMENTS, Distribution, StateCollector, WorkerMetrics
from tests.faults.scored import NOW, POISON, score_ranges
from tests.unit.telemetry.test_health import AT_WORK, PLACE

FLAGS = {"oodwatch_model_refused", "oodwatch_ready", "oodwatch_paused"}  # 0 or 1: no unit
UNITS = ("_seconds", "_bytes", "_records", "_images", "_nats", "_letters", "_ranges", "_retries", "_info", "_fds")


def entry(values: Sequence[bytes], *, segments: Sequence[str] = (), drills: Sequence[int] = ()) -> Entry:
    """What the writer has stored: records of 1, 2, 3 ... seconds of age."""
    records = [Record(PLACE, i, NOW - timedelta(seconds=i + 1), None, value) for i, value in enumerate(values)]
    batch = score_ranges([Range(PLACE, 0, len(records), 1, records)])
    named = [
        replace(image, message=replace(image.message, segment=segment))
        for image, segment in zip(batch.images, segments or ["cam"] * len(batch.images), strict=True)
    ]
    counted = np.array([i not in drills for i in range(len(named))], dtype=np.bool_)
    batch = replace(batch, images=tuple(named), prepare_s=0.02, infer_s=0.3)
    times = np.array([to_microseconds(image.message.event_time) for image in named], dtype=np.int64)
    return Entry(batch, batch.scores.score > 0.5, np.zeros(len(named), np.bool_), counted, times, store_s=4.0)


class Scrape:
    """A registry with everything that a worker registers."""

    def __init__(self, state: WorkerState = AT_WORK) -> None:
        self.state = state
        self.registry = CollectorRegistry()
        self.metrics = WorkerMetrics(
            self.registry,
            deployment="d",
            model={"digest": "abc"},
            energy_edges=np.array([0.25, 0.5]),
            clock=lambda: NOW,
        )
        pulse = Pulse({"poll": 60.0}, clock=lambda: 5.0)
        pulse.beat("poll")
        self.registry.register(StateCollector(lambda: self.state, lambda: True, pulse))

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"oodwatch_{name}", labels)

    def labels(self, name: str, label: str) -> set[str]:
        return {
            sample.labels[label]
            for metric in self.registry.collect()
            for sample in metric.samples
            if sample.name == f"oodwatch_{name}"
        }


def test_every_metric_has_the_prefix_a_unit_and_a_help_text() -> None:
    scrape = Scrape()
    scrape.metrics.stored(entry([b"a"]))
    families = list(scrape.registry.collect())
    assert len(families) == 22
    for family in families:
        assert re.fullmatch(r"oodwatch_[a-z_]+", family.name)
        full = f"{family.name}_info" if family.type == "info" else family.name
        assert family.name in FLAGS or full.endswith(UNITS) or family.name.startswith("oodwatch_images_"), family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "counter":
            assert {sample.name for sample in family.samples if not sample.name.endswith("_created")} == {
                f"{family.name}_total"
            }


def test_a_stored_batch_is_counted_by_segment_and_drills_apart() -> None:
    scrape = Scrape()
    stored = entry([bytes([i]) for i in range(6)], segments=["a", "a", "b", "b", "b", "a"], drills=[5])
    scrape.metrics.stored(stored)
    flags = stored.flags.tolist()
    assert scrape.value("images_scored_total", deployment="d", segment="a") == 2
    assert scrape.value("images_scored_total", deployment="d", segment="b") == 3
    assert scrape.value("images_flagged_total", deployment="d", segment="a") == sum(flags[:2])
    assert scrape.value("images_flagged_total", deployment="d", segment="b") == sum(flags[2:5]) > 0
    assert scrape.value("drill_images_total", deployment="d") == 1
    assert scrape.value("batch_images_sum") == 6
    for stage, seconds in (("prepare", 0.02), ("infer", 0.3), ("store", 4.0)):
        assert scrape.value("batch_duration_seconds_sum", stage=stage) == seconds


def test_dead_letters_begin_at_zero_and_count_by_reason() -> None:
    scrape = Scrape()
    assert scrape.value("dead_letters_total", reason="undecodable") == 0
    scrape.metrics.stored(entry([b"a", POISON, POISON]))
    assert scrape.value("dead_letters_total", reason="undecodable") == 2
    assert scrape.value("dead_letters_total", reason="oom") == 0


def test_latency_runs_from_the_record_to_the_commit_of_every_record() -> None:
    scrape = Scrape()
    scrape.metrics.stored(entry([b"a", POISON, b"c"]))  # 1, 2 and 3 s old
    assert scrape.value("end_to_end_latency_seconds_sum") == 6.0
    assert scrape.value("end_to_end_latency_seconds_bucket", le="1.0") == 1
    assert scrape.value("end_to_end_latency_seconds_bucket", le="2.5") == 2
    assert scrape.value("end_to_end_latency_seconds_bucket", le="+Inf") == 3


def test_the_energy_histogram_has_the_references_buckets_and_no_drills() -> None:
    scrape = Scrape()
    stored = entry([bytes([i]) for i in range(40)], drills=[0])
    scrape.metrics.stored(stored)
    energies = stored.batch.scores.energy[1:]
    for edge in (0.25, 0.5):
        counted = scrape.value("energy_nats_bucket", deployment="d", le=str(edge))
        assert counted == (energies <= edge).sum() > 0
    assert scrape.value("energy_nats_bucket", deployment="d", le="+Inf") == 39


def test_a_value_on_an_edge_belongs_to_the_bucket_below() -> None:
    distribution = Distribution("x_seconds", "X.", "seconds", np.array([1.0, 1.0, 2.0]), {})
    distribution.add(np.array([1.0, 1.5, 2.0, 9.0]))
    distribution.add(np.empty(0))
    (family,) = distribution.collect()
    buckets = [sample.value for sample in family.samples if sample.name == "x_seconds_bucket"]
    assert buckets == [1, 3, 4]


def test_segments_beyond_the_first_fifty_count_as_other_and_no_counter_falls() -> None:
    scrape = Scrape()
    names = [f"s{i}" for i in range(MAX_SEGMENTS + 20)]
    for _ in range(2):
        scrape.metrics.stored(entry([b"v"] * len(names), segments=names))
    assert len(scrape.labels("images_scored_total", "segment")) == MAX_SEGMENTS + 1
    assert scrape.value("images_scored_total", deployment="d", segment="s0") == 2
    assert scrape.value("images_scored_total", deployment="d", segment="other") == 40


def test_the_newest_event_time_never_goes_back_and_is_absent_before_the_first_image() -> None:
    scrape = Scrape()
    assert scrape.value("newest_event_timestamp_seconds", deployment="d") is None
    scrape.metrics.stored(entry([b"a"]))
    earlier = entry([b"b"])
    (image,) = earlier.batch.images
    old = replace(image, message=replace(image.message, event_time=NOW - timedelta(hours=1)))
    scrape.metrics.stored(replace(earlier, batch=replace(earlier.batch, images=(old,))))
    assert scrape.value("newest_event_timestamp_seconds", deployment="d") == NOW.timestamp()


def test_the_lag_of_a_revoked_partition_is_gone_at_the_next_scrape() -> None:
    other = Partition("images", "id-1", 7)
    scrape = Scrape(replace(AT_WORK, lag={PLACE: 3, other: 9}))
    assert scrape.value("consumer_lag_records", topic="images", partition="7") == 9
    scrape.state = replace(AT_WORK, lag={PLACE: 2})
    assert scrape.value("consumer_lag_records", topic="images", partition="7") is None
    assert scrape.value("consumer_lag_records", topic="images", partition="0") == 2


def test_what_the_worker_does_is_looked_up_at_the_scrape() -> None:
    progress = Progress(fenced=2, expired=30, database_retries=4, source_retries=5)
    at_work = replace(AT_WORK, paused=True, in_flight_records=6, in_flight_bytes=700, batch_cap=8, progress=progress)
    scrape = Scrape(at_work)
    expected = {
        "ready": 1,
        "paused": 1,
        "in_flight_records": 6,
        "in_flight_bytes": 700,
        "batch_cap_images": 8,
        "fenced_ranges_total": 2,
        "expired_records_total": 30,
        "database_retries_total": 4,
        "source_retries_total": 5,
    }
    assert {name: scrape.value(name) for name in expected} == expected
    assert scrape.value("thread_silence_seconds", thread="poll") == pytest.approx(0)
    assert scrape.value("model_info", deployment="d", digest="abc") == 1
