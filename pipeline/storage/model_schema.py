"""The tables of the registry: model packages in the database, and what people and workers did with them."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from pipeline.storage.schema import Key, Table


class ModelPackageRow(Table):
    """One model package as one archive; never changed."""

    __tablename__ = "model_package"
    __table_args__ = (Index(None, "name"),)

    hash: Mapped[str] = mapped_column(primary_key=True)  # sha256 of the archive, hexadecimal
    name: Mapped[str]  # as people call it; several packages may share one, the newest is meant
    model_id: Mapped[str]
    version: Mapped[str]
    classes: Mapped[list[str]] = mapped_column(JSON)
    parent: Mapped[str | None]  # the model that it was repaired from
    repair: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # its repair.json
    size: Mapped[int] = mapped_column(BigInteger)  # bytes of the archive
    registered_at: Mapped[datetime]
    registered_by: Mapped[str]


class ModelChunkRow(Table):
    """A piece of a package's archive: a whole one would not fit memory twice."""

    __tablename__ = "model_package_chunk"

    hash: Mapped[str] = mapped_column(ForeignKey("model_package.hash"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    content: Mapped[bytes]


class ModelEventRow(Table):
    """What happened to a package or a deployment, and who did it and why; append-only.

    The newest of `began`, `promoted` and `rolled back` says which model is a deployment's; its key is the
    revision that workers look for.
    """

    __tablename__ = "model_event"
    __table_args__ = (Index(None, "deployment_id", "id"),)

    id: Mapped[int] = mapped_column(Key, primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]  # registered, began, promoted, rolled back, refused
    deployment_id: Mapped[int | None] = mapped_column(ForeignKey("deployment.id"))
    package: Mapped[str | None] = mapped_column(ForeignKey("model_package.hash"))  # none: a worker's own --model
    reference_id: Mapped[int | None] = mapped_column(ForeignKey("reference.id"))
    of_event: Mapped[int | None] = mapped_column(BigInteger)  # of `refused`: which promotion
    who: Mapped[str]  # a person's name, or host:pid of a worker
    why: Mapped[str]
