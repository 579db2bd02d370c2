"""Record → prepared image, or dead letter. Runs in the decode pool: decoders release the GIL."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from pipeline.errors import RejectedRecord
from pipeline.ingest.decode import DecodeLimits, decode
from pipeline.ingest.message import MessageLimits, check_sha256, read_message
from pipeline.ingest.properties import measure
from pipeline.ingest.thumbnail import thumbnail
from pipeline.models.preprocessing import Preprocessing, fit
from pipeline.records import DeadLetter, Message, PreparedImage, Reason, Record

Prepared = PreparedImage | DeadLetter


@dataclass(frozen=True, slots=True)
class Preparation:
    """What the decode pool knows; the same for every record."""

    preprocessing: Preprocessing
    message_limits: MessageLimits
    decode_limits: DecodeLimits
    clock: Callable[[], datetime]

    def prepare_all(self, records: Sequence[Record]) -> list[Prepared]:
        """Prepare several records, in order. Never raises for a bad record."""
        return [self.prepare(record) for record in records]

    def prepare(self, record: Record) -> Prepared:
        """Read the headers, check the hash, decode, measure, cut to the model's input size."""
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
            return PreparedImage(
                record=record,
                message=message,
                pixels=fit(pixels, self.preprocessing),
                properties=measure(pixels),
                value_sha256=digest or b"",
            )
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
