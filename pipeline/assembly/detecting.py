"""Settings and stored references → the detectors that the monitor asks."""

import logging
from datetime import timedelta

from sqlalchemy import Connection, Engine

from pipeline.errors import RefusedError
from pipeline.settings import Settings
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.detector import Detector
from pipeline.shift.null import Null
from pipeline.storage.baselines import newest_baseline, read_baseline
from pipeline.storage.engine import reading
from pipeline.storage.monitoring import Watched
from pipeline.storage.references import reference_by_key

logger = logging.getLogger(__name__)


class Detectors:
    """Makes the detector of a (deployment, reference), or goes on with the one that a snapshot was taken of.

    A reference whose normal traffic may reach the warning level has none: that is said once, its ticks are
    still folded, and other deployments are judged.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine = engine
        self._budget = budget_of(settings)
        self._thresholds = thresholds_of(settings)
        self._nulls: dict[tuple[int, int], tuple[int | None, Null | None]] = {}  # with the baseline's version
        self.refused: dict[str, str] = {}  # by deployment: why nobody judges

    def __call__(self, deployment: Watched, reference_id: int, snapshot: bytes | None) -> Detector | None:
        """None where nobody can judge; raises RefusedError for a snapshot of another configuration."""
        null = self._null(deployment, reference_id)
        if null is None:
            return None
        if snapshot is None:
            return Detector(null, budget=self._budget, thresholds=self._thresholds)
        return Detector.restore(snapshot, null, budget=self._budget, thresholds=self._thresholds)

    def _null(self, deployment: Watched, reference_id: int) -> Null | None:
        """What is stored is read again when another baseline counts: that takes effect without a restart."""
        key = deployment.id, reference_id
        with reading(self._engine).connect() as conn:
            version = newest_baseline(conn, *key)
            if key in self._nulls and self._nulls[key][0] == version:
                return self._nulls[key][1]
            null = stored_null(conn, *key, version)
        self._nulls[key] = version, self._checked(deployment, null)
        return self._nulls[key][1]

    def _checked(self, deployment: Watched, null: Null) -> Null | None:
        try:
            null.check(self._thresholds)
        except RefusedError as why:
            self.refused[deployment.name] = str(why)
            logger.error("deployment %s is not judged: %s", deployment.name, why)
            return None
        self.refused.pop(deployment.name, None)
        return null


def stored_null(conn: Connection, deployment_id: int, reference_id: int, version: int | None) -> Null:
    """What a reference and a version of its baseline, if any, say of normal traffic."""
    null = Null.from_reference(reference_by_key(conn, reference_id))
    return null if version is None else null.with_baseline(read_baseline(conn, deployment_id, reference_id, version))


def budget_of(settings: Settings) -> Budget:
    """The promise that was asked for."""
    return Budget(minutes=timedelta(days=settings.detector.budget_days) / timedelta(minutes=1))


def thresholds_of(settings: Settings) -> Thresholds:
    """Raises UsageError for levels out of order."""
    return Thresholds(settings.detector.warning, settings.detector.critical)
