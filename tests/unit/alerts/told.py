"""An answer as it might be told: one camera with a dirty lens."""

from datetime import UTC, datetime, timedelta

from pipeline.alerts.accuracy import LabelledCount, Matters, Proportion, from_labels
from pipeline.alerts.answer import Answer, Attribution, Names, Trust, Value
from pipeline.alerts.attribution import Counted, attribute
from pipeline.alerts.cause import Cause
from pipeline.alerts.incident import Alert, Event, Incident
from pipeline.alerts.signs import Mark

ONSET = datetime(2026, 11, 24, 0, 49, tzinfo=UTC)
NOW = ONSET + timedelta(hours=1)


def alert(signal: str = "fraction", segment: str = "east", state: str = "critical", **more: object) -> Alert:
    values = {
        "id": 1,
        "signal": signal,
        "segment": segment,
        "reference_id": 1,
        "state": state,
        "peak": state,
        "provisional": False,
        "onset": ONSET,
        "share": 0.28,
        "low": 0.25,
        "high": 0.31,
        "k": 280.0,
        "n": 1000.0,
        "detail": "odds ×4",
        "raised_at": NOW,
        "updated_at": NOW,
        "resolved_at": None,
    }
    return Alert(**{**values, **more})  # type: ignore[arg-type]


def incident(*alerts: Alert, **more: object) -> Incident:
    values = {
        "id": 7,
        "deployment_id": 1,
        "kind": "shift",
        "handling": "open",
        "handled_until": None,
        "handled_by": None,
        "exception": None,
        "onset": ONSET,
        "state": "critical",
        "peak": "critical",
        "provisional": False,
        "opened_at": NOW,
        "resolved_at": None,
        "alerts": alerts or (alert(),),
    }
    return Incident(**{**values, **more})  # type: ignore[arg-type]


EVENT = Event(7, ("fraction", "east"), 3, NOW, "raise", "ok", "critical", "monitor", "")


def answer(of: Incident, *, dashboard_url: str | None = "https://look.example.com/") -> Answer:
    return Answer(
        names=Names("gates", "gates@abc", "gates-r1", 2),
        incident=of,
        lead=of.alerts[0],
        window=(ONSET, NOW),
        levels=(0.1, 0.25),
        value=Value("share of images flagged", 0.28, 0.25, 0.31, 0.02, 1000, 800),
        attribution=Attribution(
            "flagged images above normal",
            attribute({"east": Counted(1000, 280, 0.02), "north": Counted(1000, 77, 0.02)}),
            attribute({"cat": Counted(2000, 317, 0.0)}),
        ),
        causes=(Cause("lens", 0.9, ("sharpness lies lower",)), Cause("unknown", 0.2, ("look",))),
        matters=Matters(
            0.95,
            Proportion(730, 1000, 0.7, 0.76),
            from_labels([LabelledCount("east", True, 20, 5)], "labels"),
            "",
        ),
        trust=Trust(20.0, 12, 0.9998, 800, ()),
        marks=(Mark(ONSET - timedelta(minutes=4), "deploy v12", "ann"),),
        unusual=(4, 3, 2, 1),
        usual=(9,),
        dashboard_url=dashboard_url,
    )
