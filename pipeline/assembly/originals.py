"""Settings → originals of stored samples, read one by one from the log: without a group, without a commit."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from sqlalchemy import Engine

from dashboard.originals import Expired, Original
from pipeline.assembly.sources import open_topic
from pipeline.errors import EnvironmentFault, RejectedRecord, UsageError
from pipeline.ingest.source import Originals
from pipeline.settings import Settings
from pipeline.storage.engine import reading, translated_errors
from pipeline.storage.explanations import StoredImage, sampled_image

_LONGEST_SHOWN = 2_048  # pixels a side: more than a screen has
_TIMEOUT_S = 5.0  # a person waits


class LogOriginals:
    """Opens the log for each question: people ask seldom, and pages need no connection in between."""

    def __init__(self, settings: Settings, source: str, engine: Engine) -> None:
        self._settings = settings
        self._source = source
        self._engine = engine

    def read(self, sample_id: int) -> Original | Expired:
        """A sample's original, or that the log has deleted it.

        Raises UsageError for a sample that is no longer kept or was erased, another log, a record that is not the one
        that was scored, a login that may not read; EnvironmentFault where the log does not answer.
        """
        (image,) = self._stored([sample_id])
        if image is None:
            raise UsageError("This sample is no longer kept.")
        if not image.value_sha256:
            raise UsageError("This image was erased on request.")
        with self._opened() as log:
            _check_log(log, image)
            found = _value(log, image)
        return found if isinstance(found, Expired) else self._shown(found)

    def read_all(self, sample_ids: Sequence[int]) -> Mapping[int, bytes]:
        """Originals as PNG in full size, by sample; those that are gone, or of another log, are left out.

        Raises UsageError for a login that may not read, EnvironmentFault where the log does not answer.
        """
        found: dict[int, bytes] = {}
        wanted = [(key, image) for key, image in zip(sample_ids, self._stored(sample_ids), strict=True) if image]
        with self._opened() as log:
            here = log.name, log.topic_id()
            wanted = [(key, image) for key, image in wanted if (image.topic, image.topic_id) == here]
            for partition in {image.partition for _, image in wanted}:
                places = {image.offset: (key, image) for key, image in wanted if image.partition == partition}
                for record in log.records_at(partition, places):
                    key, image = places[record.offset]
                    if record.value is not None and _is_of(record.value, image):
                        with suppress(UsageError):
                            found[key] = self._shown(record.value, longest=None).png
        return found

    def _stored(self, sample_ids: Sequence[int]) -> list[StoredImage | None]:
        with translated_errors(self._engine.url), reading(self._engine).connect() as conn:
            return [sampled_image(conn, key) for key in sample_ids]

    @contextmanager
    def _opened(self) -> Iterator[Originals]:
        log = open_topic(self._source, self._settings.source.kafka, timeout_s=_TIMEOUT_S)
        try:
            yield log
        finally:
            log.close()

    def _shown(self, value: bytes, *, longest: int | None = _LONGEST_SHOWN) -> Original:
        try:
            from pipeline.ingest.decode import DecodeLimits, decode, sniff
            from pipeline.ingest.thumbnail import as_png
        except ModuleNotFoundError as error:
            raise UsageError(
                f"Images cannot be decoded here: the Python package {error.name} is missing; install 'oodwatch[worker]'"
            ) from error
        try:
            pixels = decode(value, None, limits=DecodeLimits(max_pixels=self._settings.limits.max_pixels))
        except RejectedRecord as error:
            raise UsageError(f"The record is there, and cannot be shown: {error}") from error
        height, width = pixels.shape[:2]
        return Original(as_png(pixels, longest), width, height, sniff(value) or "?", len(value))


def _check_log(log: Originals, image: StoredImage) -> None:
    """Raises UsageError where it is not the incarnation of the topic that the image came from."""
    if log.name != image.topic:
        raise UsageError(f"It came from the topic {image.topic}, and the source of these pages is {log.name}.")
    if log.topic_id() != image.topic_id:
        raise UsageError(f"The topic {image.topic} has been deleted and made anew since: the image went with it.")


def _value(log: Originals, image: StoredImage) -> bytes | Expired:
    """The value that was scored."""
    (bounds,) = log.bounds([image.partition])
    if image.offset < bounds.beginning:
        return Expired(bounds.beginning, bounds.end)
    record = next(log.records_at(image.partition, [image.offset]), None)
    if record is None:
        raise EnvironmentFault(
            f"The log gave nothing at offset {image.offset:,} of partition {image.partition}: it may be slow, or have"
            " lost the record by compaction or damage."
        )
    if record.value is None or not _is_of(record.value, image):
        raise UsageError("The log holds another value there now: the image was erased or overwritten.")
    return record.value


def _is_of(value: bytes, image: StoredImage) -> bool:
    return hashlib.sha256(value).digest() == image.value_sha256
