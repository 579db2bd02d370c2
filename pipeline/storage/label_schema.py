"""Ground truth that came late, by record id; beside it what the model said, so that nobody reads scores again."""

from datetime import datetime

from sqlalchemy import BigInteger, Index, SmallInteger
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.storage.schema import Table


class LabelRow(Table):
    """The true class of one scored image; the one that was given last."""

    __tablename__ = "label"
    __table_args__ = (Index(None, "event_time"),)

    stream_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    deployment_id: Mapped[int] = mapped_column(BigInteger)
    event_time: Mapped[datetime]
    segment_id: Mapped[int] = mapped_column(BigInteger)
    reference_id: Mapped[int] = mapped_column(BigInteger)
    class_index: Mapped[int] = mapped_column(SmallInteger)  # as the model said
    is_ood: Mapped[bool]
    label: Mapped[str]
    is_right: Mapped[bool]
    given_at: Mapped[datetime]
