"""Settings and stored references → the detectors that the monitor asks."""

import logging
from datetime import timedelta

from sqlalchemy import Engine

from pipeline.errors import RefusedError
from pipeline.settings import Settings
from pipeline.shift.budget import Budget, Thresholds
from pipeline.shift.detector import Detector
from pipeline.shift.null import Null
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
        self._nulls: dict[tuple[int, int], Null | None] = {}
        self.refused: dict[str, str] = {}  # by deployment: why nobody judges

    def __call__(self, deployment: Watched, reference_id: int, snapshot: bytes | None) -> Detector | None:
        """None where nobody can judge; raises RefusedError for a snapshot of another configuration."""
        key = deployment.id, reference_id
        if key not in self._nulls:
            self._nulls[key] = self._null(deployment, reference_id)
        null = self._nulls[key]
        if null is None:
            return None
        if snapshot is None:
            return Detector(null, budget=self._budget, thresholds=self._thresholds)
        return Detector.restore(snapshot, null, budget=self._budget, thresholds=self._thresholds)

    def _null(self, deployment: Watched, reference_id: int) -> Null | None:
        with reading(self._engine).connect() as conn:
            null = Null.from_reference(reference_by_key(conn, reference_id))
        try:
            null.check(self._thresholds)
        except RefusedError as why:
            self.refused[deployment.name] = str(why)
            logger.error("deployment %s is not judged: %s", deployment.name, why)
            return None
        return null


def budget_of(settings: Settings) -> Budget:
    """The promise that was asked for."""
    return Budget(minutes=timedelta(days=settings.detector.budget_days) / timedelta(minutes=1))


def thresholds_of(settings: Settings) -> Thresholds:
    """Raises UsageError for levels out of order."""
    return Thresholds(settings.detector.warning, settings.detector.critical)
