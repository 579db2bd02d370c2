"""The table of explanations: which regions of a stored image account for its score."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.storage.schema import Key, Table


class ExplanationRow(Table):
    """One image by one segmenter under one reference. Its masks are outlines of what was seen: `forget` erases them."""

    __tablename__ = "explanation"
    __table_args__ = (
        UniqueConstraint("stream_id", "offset", "reference_id", "segmenter"),
        Index(None, "event_time"),
    )

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[int] = mapped_column(BigInteger)
    stream_id: Mapped[int] = mapped_column(BigInteger)
    offset: Mapped[int] = mapped_column(BigInteger)
    event_time: Mapped[datetime]  # the image's
    segmenter: Mapped[str]
    picture: Mapped[str]  # original, thumbnail
    made_at: Mapped[datetime]
    content: Mapped[dict[str, Any]] = mapped_column(JSON)  # as `oodwatch explain --json` prints it
