"""What people said of single images: a real shift, noise, or bad input."""

from datetime import datetime

from sqlalchemy import BigInteger, Index
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.storage.schema import Key, Table


class ReviewRow(Table):
    """One person's verdict on one scored image; append-only, the newest of an image counts.

    Nothing in it points to who or what the image shows: it outlives `forget`, as the anonymous row of `score` does.
    """

    __tablename__ = "review"
    __table_args__ = (
        Index(None, "stream_id", "offset", "id"),
        Index(None, "deployment_id", "event_time"),
        Index(None, "event_time"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    stream_id: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger)
    event_time: Mapped[datetime]  # the image's
    segment_id: Mapped[int] = mapped_column(BigInteger)
    is_ood: Mapped[bool]
    verdict: Mapped[str | None]  # shift, noise, bad_input; none: withdrawn
    who: Mapped[str]
    at: Mapped[datetime]
