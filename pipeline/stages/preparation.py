"""Record → prepared image, or dead letter. Runs in the decode pool: decoders release the GIL."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from pipeline.errors import RejectedRecord
from pipeline.ingest.decode import DecodeLimits, decode
from pipeline.ingest.message import MessageLimits, check_sha256, read_message
from pipeline.ingest.properties import Grid, grid_of, measure
from pipeline.ingest.thumbnail import thumbnail
from pipeline.models.preprocessing import Preprocessing, fit
from pipeline.records import DeadLetter, ImageProperties, Message, Pixels, PreparedImage, Reason, Record

Prepared = PreparedImage | DeadLetter


class _Opened(NamedTuple):
    """A decoded record that still has to be measured; its pixels are the model's input alone."""

    record: Record
    message: Message
    pixels: Pixels
    grid: Grid
    value_sha256: bytes

    def prepared(self, properties: ImageProperties) -> PreparedImage:
        return PreparedImage(self.record, self.message, self.pixels, properties, self.value_sha256)


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the decode pool knows; the same for every record."""

    preprocessing: Preprocessing
    message_limits: MessageLimits
    decode_limits: DecodeLimits
    clock: Callable[[], datetime]

    def prepare_all(self, records: Sequence[Record]) -> list[Prepared]:
        """Prepare several records, in order. Never raises for a bad record."""
        opened = [self._open(record) for record in records]
        properties = iter(measure([item.grid for item in opened if isinstance(item, _Opened)]))
        return [item if isinstance(item, DeadLetter) else item.prepared(next(properties)) for item in opened]

    def prepare(self, record: Record) -> Prepared:
        """Prepare one record."""
        (prepared,) = self.prepare_all([record])
        return prepared

    def _open(self, record: Record) -> "_Opened | DeadLetter":
        """Read the headers, check the hash, decode, cut to the model's input size."""
        now = self.clock()
        digest: bytes | None = None
        message: Message | None = None
        try:
            value = record.value or b""
            digest = hashlib.sha256(value).digest() if record.value else None
            message = read_message(record, now=now, limits=self.message_limits)
            check_sha256(message, digest or b"")
            pixels = decode(
                value,
                message.content_type,
                limits=self.decode_limits,
                exif_orientation=self.preprocessing.exif_orientation,
            )
            return _Opened(record, message, fit(pixels, self.preprocessing), grid_of(pixels), digest or b"")
        except RejectedRecord as rejection:
            return DeadLetter(
                record=record,
                stage=rejection.stage,
                reason=Reason(rejection.reason),
                error=str(rejection),
                at=now,
                value_sha256=digest,
                message=message,
            )

    def picture(self, image: PreparedImage) -> bytes | None:
        """A thumbnail, re-encoded from the record's own bytes so that no metadata survives."""
        pixels = decode(
            image.record.value or b"",
            image.message.content_type,
            limits=self.decode_limits,
            exif_orientation=True,  # for people, upright
        )
        return thumbnail(pixels)
