"""What two models say of the same images: stored features, originals from the log, or a folder."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch
from sqlalchemy import Engine

from pipeline.assembly.parts import ModelParts, decode_threads, required_source, score_of
from pipeline.assembly.sources import open_topic
from pipeline.errors import UsageError
from pipeline.ingest.image_files import label_index, labelled_images
from pipeline.models.network import read_state_dict
from pipeline.models.package import CODE_FILE, WEIGHTS_FILE, ModelPackage
from pipeline.records import Float32s, Outputs, PreparedImage, Record, Reference
from pipeline.settings import Settings
from pipeline.stages.files import score_files
from pipeline.storage.engine import reading
from pipeline.storage.samples import SamplePlace, random_places, sample_features
from pipeline.training.comparison import Judged

_BATCH = 64


@dataclass(frozen=True, slots=True)
class Images:
    """Which images a person wants both models to score."""

    folder: Path | None = None  # or a CSV; None: what the deployment has kept of its traffic
    start: datetime | None = None  # event time
    end: datetime | None = None
    most: int = 1_000  # originals to be read from the log


@dataclass(frozen=True, slots=True)
class Rival:
    """A loaded model with its reference."""

    parts: ModelParts
    reference: Reference

    def judged(self, outputs: Outputs) -> Judged:
        """Its scores of its outputs, and what it holds them against."""
        scores = score_of(self.reference, self.parts.classifier)(outputs)
        return Judged(self.parts.package.model_id, self.reference.name, self.reference.threshold, scores)


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Outputs of both; row i is the same image."""

    old: Outputs
    new: Outputs
    labels: Sequence[int | None]
    data: str  # which images these are, in words


def pair_of(
    settings: Settings,
    engine: Engine,
    deployment: str,
    images: Images,
    old: Rival,
    new: Rival,
    progress: Callable[[int], None],
) -> Pair:
    """Stored features where the models differ in their heads alone, else originals from the log; or a folder's images.

    Thumbnails never: they are other images. Raises UsageError where there is nothing to compare by.
    """
    if images.folder is not None:
        return _of_files(settings, images.folder, old, new, progress)
    if differ_in_head_alone(old.parts.package, new.parts.package):
        return _of_features(engine, deployment, images, old, new)
    with reading(engine).connect() as conn:
        places = random_places(conn, deployment, images.start, images.end, images.most)
    if not places:
        raise _nothing(f"{deployment} has kept no sample of this window")
    return _of_originals(settings, places, old, new, progress)


def differ_in_head_alone(old: ModelPackage, new: ModelPackage) -> bool:
    """Whether features of the one are features of the other, bit for bit."""
    ours, theirs = ((p.spec.architecture, p.spec.head, p.spec.arguments, p.spec.preprocessing) for p in (old, new))
    if old.spec.is_program or ours != theirs or _code(old) != _code(new):
        return False
    before, after = (read_state_dict(package.path / WEIGHTS_FILE) for package in (old, new))
    head = f"{old.spec.head}."
    return before.keys() == after.keys() and all(
        name.startswith(head) or torch.equal(before[name], after[name]) for name in before
    )


def _code(package: ModelPackage) -> bytes | None:
    file = package.path / CODE_FILE
    return file.read_bytes() if file.exists() else None


def _of_features(engine: Engine, deployment: str, images: Images, old: Rival, new: Rival) -> Pair:
    """Both heads on the features that the worker kept; of random samples, for strange ones were chosen by a score."""
    models = {rival.parts.package.model_id for rival in (old, new)}
    with reading(engine).connect() as conn:
        found = sample_features(conn, deployment, images.start, images.end)
        samples = [sample for sample in found if sample.is_random and sample.model_id in models]
    if not samples:
        raise _nothing(f"{deployment} has kept no features of {old.parts.package.model_id} of this window")
    features = np.stack([np.frombuffer(sample.features, "<f2") for sample in samples]).astype(np.float32)
    labels = [label_index(sample.label, old.reference.classes) for sample in samples]
    data = f"{len(samples):,} stored features of {deployment}"
    return Pair(_by_head(old, features), _by_head(new, features), labels, data)


def _by_head(rival: Rival, features: Float32s) -> Outputs:
    head = rival.parts.classifier.head()
    assert head is not None, "programs have no head that could be replaced"
    weight, bias = head
    return Outputs((features @ weight.T + bias).astype(np.float32), features)


def _of_files(settings: Settings, folder: Path, old: Rival, new: Rival, progress: Callable[[int], None]) -> Pair:
    files = labelled_images(folder)
    paths = [path for path, _ in files]
    before, after = (_by_file(settings, paths, rival, progress) for rival in (old, new))
    both = sorted(before.keys() & after.keys())
    if not both:
        raise UsageError(f"{folder}: none of {len(files)} files is an image that both models can score")
    labels = [label_index(files[file][1], old.reference.classes) for file in both]
    chosen = ([rows[file] for file in both] for rows in (before, after))
    return Pair(_joined(next(chosen)), _joined(next(chosen)), labels, f"{len(both):,} images of {folder}")


def _by_file(
    settings: Settings, paths: Sequence[Path], rival: Rival, progress: Callable[[int], None]
) -> dict[int, Outputs]:
    """Outputs of each file that could be scored, by its number."""
    rows = {}
    parts = rival.parts
    score, threads = score_of(rival.reference, parts.classifier), decode_threads(settings)
    for scored in score_files(paths, parts.preparation, parts.classifier, score, threads=threads):
        for row, file in enumerate(scored.files):
            rows[file] = Outputs(scored.outputs.logits[row : row + 1], scored.outputs.features[row : row + 1])
        progress(len(scored.files) + len(scored.failed))
    return rows


def _of_originals(
    settings: Settings, places: Sequence[SamplePlace], old: Rival, new: Rival, progress: Callable[[int], None]
) -> Pair:
    """The records themselves, read again from the log."""
    before: list[Outputs] = []
    after: list[Outputs] = []
    labels: list[int | None] = []
    found = _originals(settings, places)
    while batch := list(islice(found, _BATCH)):
        prepared = [rival.parts.preparation.prepare_all([record for _, record in batch]) for rival in (old, new)]
        pairs = [
            (place, ours, theirs)
            for (place, _), ours, theirs in zip(batch, *prepared, strict=True)
            if isinstance(ours, PreparedImage) and isinstance(theirs, PreparedImage)
        ]
        if pairs:
            before.append(old.parts.classifier.predict(np.stack([ours.pixels for _, ours, _ in pairs])))
            after.append(new.parts.classifier.predict(np.stack([theirs.pixels for _, _, theirs in pairs])))
            labels += [label_index(place.label, old.reference.classes) for place, _, _ in pairs]
        progress(len(batch))
    if not labels:
        raise _nothing(f"the log holds none of {len(places):,} sampled images any longer")
    data = f"{len(labels):,} of {len(places):,} sampled images, read again from the log"
    return Pair(_joined(before), _joined(after), labels, data)


def _originals(settings: Settings, places: Sequence[SamplePlace]) -> Iterator[tuple[SamplePlace, Record]]:
    """Those that the log still holds: of the same incarnation of the topic, with the same value."""
    topic = open_topic(required_source(settings), settings.source.kafka)
    try:
        here = topic.name, topic.topic_id()
        wanted = [place for place in places if (place.topic, place.topic_id) == here]
        wanted.sort(key=lambda place: place.partition)
        for partition, group in groupby(wanted, key=lambda place: place.partition):
            by_offset = {place.offset: place for place in group}
            for record in topic.records_at(partition, by_offset):
                place = by_offset[record.offset]
                if record.value is not None and hashlib.sha256(record.value).digest() == place.value_sha256:
                    yield place, record
    finally:
        topic.close()


def _joined(parts: Sequence[Outputs]) -> Outputs:
    return Outputs(np.concatenate([part.logits for part in parts]), np.concatenate([part.features for part in parts]))


def _nothing(why: str) -> UsageError:
    return UsageError(f"{why}; name images of normal traffic with --images FOLDER")
