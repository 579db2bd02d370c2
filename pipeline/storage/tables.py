"""All tables, whichever module declares them: one row class of each, since to import it declares its neighbours."""

from pipeline.storage.alert_schema import IncidentRow
from pipeline.storage.explanation_schema import ExplanationRow
from pipeline.storage.label_schema import LabelRow
from pipeline.storage.model_schema import ModelEventRow
from pipeline.storage.review_schema import ReviewRow
from pipeline.storage.schema import ScoreRow

(METADATA,) = {row.metadata for row in (IncidentRow, ExplanationRow, LabelRow, ModelEventRow, ReviewRow, ScoreRow)}
