"""What was done with models: who promoted which package, with which reference, and which worker refused it.

The events are the state: the model of a deployment is what the newest promotion or roll-back names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select

from pipeline.storage.model_schema import ModelEventRow, ModelPackageRow
from pipeline.storage.schema import DeploymentRow, ReferenceRow

REGISTERED, BEGAN, PROMOTED, ROLLED_BACK, REFUSED = "registered", "began", "promoted", "rolled back", "refused"
_CHOOSING = (BEGAN, PROMOTED, ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Activation:
    """From then on a deployment's model is this one."""

    id: int  # the revision
    kind: str
    package: str | None  # its hash; none: what a worker's --model names
    reference_id: int
    at: datetime
    who: str

    @property
    def chooses(self) -> tuple[str | None, int]:
        """Which package with which reference."""
        return self.package, self.reference_id


@dataclass(frozen=True, slots=True)
class ModelEvent:
    """One line of the history."""

    id: int
    at: datetime
    event: str
    deployment: str | None
    package: str | None
    model: str | None
    reference: str | None
    of_event: int | None
    who: str
    why: str


def add_event(
    conn: Connection,
    kind: str,
    *,
    deployment_id: int | None = None,
    package: str | None,
    reference_id: int | None = None,
    of_event: int | None = None,
    who: str,
    why: str,
    now: datetime,
) -> int:
    """Append an event; return its key."""
    return conn.execute(
        insert(ModelEventRow)
        .values(
            at=now,
            kind=kind,
            deployment_id=deployment_id,
            package=package,
            reference_id=reference_id,
            of_event=of_event,
            who=who,
            why=why,
        )
        .returning(ModelEventRow.id)
    ).scalar_one()


def newest_activation(conn: Connection, deployment_id: int) -> Activation | None:
    """Which model is the deployment's now; None: nobody has promoted one. Cheap: workers ask every two seconds."""
    row = conn.execute(_activations(deployment_id).order_by(ModelEventRow.id.desc()).limit(1)).one_or_none()
    return None if row is None else Activation(*row)


def refusals(conn: Connection, activation: Activation) -> tuple[datetime, int, str] | None:
    """Since when, by how many workers and, as the newest says, why a choice is refused; None: nobody refuses it."""
    mine = (ModelEventRow.kind == REFUSED, ModelEventRow.of_event == activation.id)
    since, workers = conn.execute(
        select(func.min(ModelEventRow.at), func.count(ModelEventRow.who.distinct())).where(*mine)
    ).one()
    if not workers:
        return None
    why = conn.scalar(select(ModelEventRow.why).where(*mine).order_by(ModelEventRow.id.desc()).limit(1))
    return since, workers, why or ""


def standing(conn: Connection, deployment_id: int) -> list[Activation]:
    """The model that is the deployment's now, and behind it those that roll-backs would lead to, one after another."""
    rows = conn.execute(_activations(deployment_id).order_by(ModelEventRow.id))
    return stack([Activation(*row) for row in rows])


def stack(activations: Sequence[Activation]) -> list[Activation]:
    """Each promotion lies on what it replaced; a roll-back takes off what lies on what it leads to. Newest first."""
    lying: list[Activation] = []
    for activation in activations:
        if activation.kind == ROLLED_BACK:
            same = [at for at, one in enumerate(lying) if one.chooses == activation.chooses]
            del lying[same[-1] if same else len(lying) :]
        lying.append(activation)
    return lying[::-1]


def list_events(conn: Connection, deployment: str | None = None) -> list[ModelEvent]:
    """The history, oldest first; of one deployment, what concerns no deployment is left out."""
    statement: Select[*tuple[Any, ...]] = (
        select(
            ModelEventRow.id,
            ModelEventRow.at,
            ModelEventRow.kind,
            DeploymentRow.name,
            ModelEventRow.package,
            ModelPackageRow.model_id,
            ReferenceRow.name,
            ModelEventRow.of_event,
            ModelEventRow.who,
            ModelEventRow.why,
        )
        .outerjoin(DeploymentRow, DeploymentRow.id == ModelEventRow.deployment_id)
        .outerjoin(ModelPackageRow, ModelPackageRow.hash == ModelEventRow.package)
        .outerjoin(ReferenceRow, ReferenceRow.id == ModelEventRow.reference_id)
        .order_by(ModelEventRow.id)
    )
    if deployment is not None:
        statement = statement.where(DeploymentRow.name == deployment)
    return [ModelEvent(*row) for row in conn.execute(statement)]


def _activations(deployment_id: int) -> Select[*tuple[Any, ...]]:
    return select(
        ModelEventRow.id,
        ModelEventRow.kind,
        ModelEventRow.package,
        ModelEventRow.reference_id,
        ModelEventRow.at,
        ModelEventRow.who,
    ).where(ModelEventRow.deployment_id == deployment_id, ModelEventRow.kind.in_(_CHOOSING))
