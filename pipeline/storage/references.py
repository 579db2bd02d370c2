"""References: written once, never changed, found by name or by model."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, func, insert, null, select

from pipeline.errors import EnvironmentFault, UsageError
from pipeline.records import Card, CardLine, Float64s, Reference, ReferenceImage, ResidualSpace
from pipeline.storage.arrays import coverage_arrays, coverage_of, pack, unpack
from pipeline.storage.schema import ReferenceImageRow, ReferenceRow

_ARRAYS = (
    "scores",
    "edges",
    "fine_edges",
    "class_counts",
    "feature_mean",
    "projection",
    "projected_mean",
    "projected_covariance",
)
_IMAGE_COLUMNS = tuple(ReferenceImageRow.__table__.columns)
_COLUMNS = (
    "name",
    "version",
    "model_name",
    "model_id",
    "decoder",
    "dtype",
    "score_name",
    "temperature",
    "target_fpr",
    "n",
    "rank",
    "threshold",
    "p0_low",
    "p0_high",
    "representative",
    "created_at",
)


@dataclass(frozen=True, slots=True)
class ReferenceLine:
    """One reference in a list."""

    reference: str
    model: str
    score: str
    temperature: float
    n: int
    threshold: float
    p0_low: float
    p0_high: float
    created_at: datetime


def newest_version(conn: Connection, model_name: str) -> int:
    """The newest reference's version of a model's name; 0 where there is none."""
    return conn.scalar(select(func.max(ReferenceRow.version)).where(ReferenceRow.model_name == model_name)) or 0


def save_reference(conn: Connection, reference: Reference) -> int:
    """Store a reference whose version is one above the newest; return its key.

    Raises EnvironmentFault where another calibration of the same model has stored one meanwhile.
    """
    newest = newest_version(conn, reference.model_name)
    if newest != reference.version - 1:
        raise EnvironmentFault(
            f"another calibration of {reference.model_name} has stored {reference.model_name}-r{newest}"
            " while this one ran; nothing was written; run `oodwatch calibrate` again if you want a newer one"
        )
    values = {column: getattr(reference, column) for column in _COLUMNS}
    arrays = {name: getattr(reference, name) for name in _ARRAYS}
    if reference.residual is not None:
        arrays |= {f"residual_{name}": value for name, value in asdict(reference.residual).items()}
    arrays |= coverage_arrays(reference.coverage)
    key = conn.execute(
        insert(ReferenceRow)
        .values(
            **values,
            classes=list(reference.classes),
            arrays=pack(arrays),
            card=None if reference.card is None else asdict(reference.card),
        )
        .returning(ReferenceRow.id)
    ).scalar_one()
    if reference.images:
        conn.execute(
            insert(ReferenceImageRow),
            [_image_values(key, position, image) for position, image in enumerate(reference.images)],
        )
    return key


def has_reference(conn: Connection, model_id: str) -> bool:
    """Whether the model was ever calibrated here."""
    return conn.scalar(select(ReferenceRow.id).where(ReferenceRow.model_id == model_id).limit(1)) is not None


def find_reference(conn: Connection, *, name: str | None, model_id: str) -> Reference:
    """The named reference, else the newest of the model, without its images.

    Raises UsageError where there is none, or where it belongs to another model.
    """
    if name is not None:
        found = reference_by_name(conn, name)
        if found.model_id != model_id:
            raise UsageError(
                f"reference {name} belongs to model {found.model_id}, not to {model_id}: energies of two models"
                " cannot be compared; run `oodwatch calibrate` with this model"
            )
        return found
    of_model = select(ReferenceRow.__table__).where(ReferenceRow.model_id == model_id)
    row = conn.execute(of_model.order_by(ReferenceRow.version.desc()).limit(1)).one_or_none()
    if row is None:
        raise UsageError(
            f"model {model_id} has no reference in {conn.engine.url.render_as_string()}; make one with"
            " `oodwatch calibrate --model DIR IMAGES`, or name another --database"
        )
    return _reference(row)


def reference_by_name(conn: Connection, name: str) -> Reference:
    """The named reference, of whatever model, without its images. Raises UsageError where there is none."""
    row = conn.execute(select(ReferenceRow.__table__).where(ReferenceRow.name == name)).one_or_none()
    if row is None:
        known = conn.scalars(select(ReferenceRow.name).order_by(ReferenceRow.id)).all()
        raise UsageError(f"no reference is named {name!r}; known: {', '.join(known) or 'none'}")
    return _reference(row)


def newest_of_model(conn: Connection, model_id: str) -> str | None:
    """The name of the model's newest reference; None where it has none."""
    ordered = select(ReferenceRow.name).where(ReferenceRow.model_id == model_id).order_by(ReferenceRow.version.desc())
    return conn.scalar(ordered.limit(1))


def reference_by_key(conn: Connection, key: int) -> Reference:
    """The reference that rows name, without its images."""
    return _reference(conn.execute(select(ReferenceRow.__table__).where(ReferenceRow.id == key)).one())


def model_ids(conn: Connection, keys: Iterable[int]) -> dict[int, str]:
    """The model of each of these references, by key."""
    rows = conn.execute(select(ReferenceRow.id, ReferenceRow.model_id).where(ReferenceRow.id.in_(list(keys))))
    return {row.id: row.model_id for row in rows}


def classes_of(conn: Connection) -> dict[int, tuple[str, ...]]:
    """The classes of every reference, by key."""
    return {row.id: tuple(row.classes) for row in conn.execute(select(ReferenceRow.id, ReferenceRow.classes))}


def reference_images(conn: Connection, reference_id: int, *, thumbnails: bool = True) -> list[ReferenceImage]:
    """The images kept with a reference; without `thumbnails` no picture leaves the database."""
    columns = [null().label(one.name) if one.name == "thumbnail" and not thumbnails else one for one in _IMAGE_COLUMNS]
    statement = select(*columns).where(ReferenceImageRow.reference_id == reference_id)
    return [
        ReferenceImage(
            file=row.file,
            label=row.label,
            sha256=row.sha256,
            energy=row.energy,
            score=row.score,
            class_index=row.class_index,
            projected=np.frombuffer(row.projected, dtype="<f4"),
            thumbnail=row.thumbnail,
            msp=row.msp,
        )
        for row in conn.execute(statement.order_by(ReferenceImageRow.position))
    ]


def reference_features(conn: Connection, reference_id: int) -> Float64s:
    """(n, d) projected features of the images kept with a reference; (0, 0) where there are none."""
    statement = select(ReferenceImageRow.projected).where(ReferenceImageRow.reference_id == reference_id)
    rows = conn.scalars(statement.order_by(ReferenceImageRow.position)).all()
    return np.array([np.frombuffer(row, "<f4") for row in rows], np.float64).reshape(len(rows), -1 if rows else 0)


class StoredCard(NamedTuple):
    """A reference's blind-spot card, and the numbers of its threshold."""

    reference: str
    score: str
    n: int
    target_fpr: float
    card: Card | None


def stored_card(conn: Connection, name: str | None) -> StoredCard:
    """The blind-spot card of the named reference, else of the newest.

    Raises UsageError where there is none.
    """
    columns = ReferenceRow.name, ReferenceRow.score_name, ReferenceRow.n, ReferenceRow.target_fpr, ReferenceRow.card
    statement = select(*columns).order_by(ReferenceRow.id.desc())
    if name is not None:
        statement = statement.where(ReferenceRow.name == name)
    row = conn.execute(statement.limit(1)).one_or_none()
    if row is None:
        known = conn.scalars(select(ReferenceRow.name).order_by(ReferenceRow.id)).all()
        wanted = "no reference yet" if name is None else f"no reference is named {name!r}"
        raise UsageError(f"{wanted}; known: {', '.join(known) or 'none, make one with `oodwatch calibrate`'}")
    return StoredCard(row.name, row.score_name, row.n, row.target_fpr, _card(row.card))


def list_references(conn: Connection) -> list[ReferenceLine]:
    """All references, oldest first."""
    rows = conn.execute(select(ReferenceRow.__table__).order_by(ReferenceRow.id))
    return [
        ReferenceLine(
            reference=row.name,
            model=row.model_id,
            score=row.score_name,
            temperature=row.temperature,
            n=row.n,
            threshold=row.threshold,
            p0_low=row.p0_low,
            p0_high=row.p0_high,
            created_at=row.created_at,
        )
        for row in rows
    ]


def _reference(row: Row[tuple[object, ...]]) -> Reference:
    values = row._mapping
    arrays = unpack(values["arrays"])
    return Reference(
        **{column: values[column] for column in _COLUMNS},
        **{name: arrays[name] for name in _ARRAYS},
        classes=tuple(values["classes"]),
        residual=_residual(arrays),
        coverage=coverage_of(arrays),
        card=_card(values["card"]),
        id=values["id"],
    )


def _residual(arrays: Mapping[str, Any]) -> ResidualSpace | None:
    if "residual_axes" not in arrays:
        return None
    return ResidualSpace(arrays["residual_origin"], arrays["residual_axes"], float(arrays["residual_scale"]))


def _card(values: Mapping[str, Any] | None) -> Card | None:
    if values is None:
        return None
    return Card(**{**values, "lines": tuple(CardLine(**line) for line in values["lines"])})


def _image_values(key: int, position: int, image: ReferenceImage) -> dict[str, object]:
    return {
        "reference_id": key,
        "position": position,
        "file": image.file,
        "label": image.label,
        "sha256": image.sha256,
        "energy": image.energy,
        "score": image.score,
        "class_index": image.class_index,
        "projected": image.projected.astype("<f4").tobytes(),
        "thumbnail": image.thumbnail,
        "msp": image.msp,
    }
