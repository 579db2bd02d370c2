"""Whatever happens, in whatever order: what always holds of incidents and of what is told of them."""

from collections import Counter
from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pipeline.alerts.acts import Act, handle
from pipeline.alerts.evidence import Evidence, Stream
from pipeline.alerts.incident import Event, Incident, Key, action_of, rank
from pipeline.alerts.lifecycle import Casebook, Happened, Rules
from pipeline.errors import OodwatchError
from tests.unit.alerts.scenes import minute

KEYS: list[Key] = [
    ("fraction", ""),
    ("fraction", "north"),
    ("histogram", "north"),
    ("rate", ""),
    ("silence", ""),
    ("workers", ""),
    ("disk", ""),
    ("model", ""),
]
HEALTH = {"workers", "disk", "model"}
BEGINS = {"raise", "late", "reopen", "baseline_invalid"}
ENDS = {"resolve", "withdraw"}


class OneRun:
    """Takes everything in with one book."""

    def __init__(self, rules: Rules) -> None:
        self.book = Casebook(1, (), rules)

    def follow(self, evidence: Evidence, now: float) -> None:
        self.book.follow(evidence, now=minute(now))

    def look(self, streams: dict[Key, Stream], now: float) -> None:
        self.book.look(streams, now=minute(now))

    def handle(self, at: int, act: Act, streams: dict[Key, Stream], now: float) -> None:
        known = list(self.book.incidents.values())
        if not known:
            return
        try:
            done = handle(known[at % len(known)], act, streams, now=minute(now))
        except OodwatchError:
            return
        if done is not None:
            self.book.incidents[done[0].id] = done[0]
            self.book.happened.append(Happened(done[1], done[0]))

    def open_keys(self) -> list[Key]:
        return [alert.key for incident in self.book.incidents.values() for alert in incident.open_alerts]


class ManyRuns(OneRun):
    """Begins anew before everything, with what is stored: incidents that are open or ended in the last day."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.stored: dict[int, Incident] = {}
        self.happened: list[Happened] = []
        self._keys = 0
        super().__init__(rules)

    def follow(self, evidence: Evidence, now: float) -> None:
        self._again(evidence.at)
        super().follow(evidence, now)
        self._store()

    def look(self, streams: dict[Key, Stream], now: float) -> None:
        self._again(minute(now))
        super().look(streams, now)
        self._store()

    def handle(self, at: int, act: Act, streams: dict[Key, Stream], now: float) -> None:
        self.book = Casebook(1, self.stored.values(), self.rules)
        super().handle(at, act, streams, now)
        self._store()

    def _again(self, at: Any) -> None:
        recent = [
            incident
            for incident in self.stored.values()
            if incident.resolved_at is None or at - incident.resolved_at <= self.rules.reopen
        ]
        self.book = Casebook(1, recent, self.rules)

    def _store(self) -> None:
        keys: dict[int, int] = {}
        for incident in self.book.incidents.values():
            for key in (incident.id, *(alert.id for alert in incident.alerts)):
                if key < 0:
                    self._keys += 1
                    keys[key] = self._keys

        def known(incident: Incident) -> Incident:
            alerts = tuple(replace(alert, id=keys.get(alert.id, alert.id)) for alert in incident.alerts)
            return replace(incident, id=keys.get(incident.id, incident.id), alerts=alerts)

        for incident in map(known, self.book.incidents.values()):
            self.stored[incident.id] = incident
        for one in self.book.happened:
            incident = known(one.incident)
            self.happened.append(Happened(replace(one.event, incident_id=incident.id), incident))


def without_keys(incident: Incident) -> Incident:
    return replace(incident, id=0, alerts=tuple(replace(alert, id=0) for alert in incident.alerts))


def nameless(event: Event) -> Event:
    return replace(event, incident_id=0)


class AnyStory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        rules = Rules()
        self.one, self.many = OneRun(rules), ManyRuns(rules)
        self.now = 0.0
        self.transition = 0
        self.checked = 0
        self.open_since: dict[Key, str] = {}
        self.held = False
        self.announced: set[int] = set()  # incidents whose silence ends soon

    @rule(
        key=st.sampled_from(KEYS),
        state=st.sampled_from(["ok", "shift", "warning", "critical"]),
        provisional=st.booleans(),
        reference=st.integers(1, 2),
        age=st.sampled_from([0, 30, 300]),
        withdrawn=st.booleans(),
        share=st.floats(0.01, 1),
    )
    def see(
        self, key: Key, state: str, provisional: bool, reference: int, age: int, withdrawn: bool, share: float
    ) -> None:
        health = key[0] in HEALTH
        of_pipeline = {"model": "baseline_invalid", **dict.fromkeys(("silence", "workers", "disk"), "error")}
        self.transition += 1
        evidence = Evidence(
            kind="health" if health else "shift",
            signal=key[0],
            segment=key[1],
            reference_id=reference,
            state=state if state == "ok" else of_pipeline.get(key[0], state),
            at=minute(self.now),
            newest=minute(self.now - age),
            onset=minute(self.now - age - 1),
            provisional=provisional and not health,
            share=share,
            transition_id=self.transition,
            withdrawn=withdrawn and state == "ok",
        )
        self.one.follow(evidence, self.now)
        self.many.follow(evidence, self.now)

    @rule(
        minutes=st.sampled_from([0, 1, 10, 20, 100, 241, 1441, -5]),
        age=st.sampled_from([0, 300]),
        share=st.floats(0.01, 1),
        ended=st.sets(st.sampled_from(KEYS[:4]), max_size=1),
    )
    def wait(self, minutes: float, age: int, share: float, ended: set[Key]) -> None:
        self.now += minutes
        streams = {key: Stream(minute(self.now - age), share, key in ended) for key in self.one.open_keys()}
        self.one.look(streams, self.now)
        self.many.look(streams, self.now)

    @rule(
        at=st.integers(0, 5),
        kind=st.sampled_from(["acknowledge", "silence", "expect", "note"]),
        who=st.sampled_from(["ann", "bob", ""]),
        lasting=st.sampled_from([-1, 30, 300, 3000]),
        unless_worse=st.booleans(),
        share=st.floats(0.01, 1),
    )
    def act(self, at: int, kind: Any, who: str, lasting: float, unless_worse: bool, share: float) -> None:
        act = Act(kind, who, "because", minute(self.now + lasting), unless_worse)
        streams = {key: Stream(minute(self.now), share) for key in self.one.open_keys()}
        self.one.handle(at, act, streams, self.now)
        self.many.handle(at, act, streams, self.now)

    @invariant()
    def one_run_and_many_runs_say_the_same(self) -> None:
        said = [(nameless(one.event), without_keys(one.incident)) for one in self.one.book.happened[self.checked :]]
        again = [(nameless(one.event), without_keys(one.incident)) for one in self.many.happened[self.checked :]]
        assert said == again
        stored = [without_keys(incident) for incident in self.many.stored.values()]
        assert stored == [without_keys(incident) for incident in self.one.book.incidents.values()]

    @invariant()
    def an_alert_is_open_once_and_an_incident_of_a_kind_too(self) -> None:
        keys, kinds = self.one.open_keys(), Counter[str]()
        assert len(keys) == len(set(keys))
        for incident in self.one.book.incidents.values():
            kinds[incident.kind] += incident.resolved_at is None
        assert all(count <= 1 for count in kinds.values())

    @invariant()
    def an_incident_is_what_its_alerts_make_it(self) -> None:
        for incident in self.one.book.incidents.values():
            standing = incident.open_alerts
            assert (incident.resolved_at is None) == bool(standing) == (incident.handling != "resolved")
            assert rank(incident.state) == max((rank(alert.state) for alert in standing), default=0)
            assert rank(incident.peak) >= max(rank(alert.state) for alert in incident.alerts)
            assert incident.onset <= min(alert.onset for alert in incident.alerts)
            assert (incident.handled_until is not None) >= incident.is_quiet

    @invariant()
    def what_is_told_may_be_told_and_every_beginning_has_one_end(self) -> None:
        for one in self.one.book.happened[self.checked :]:
            event, incident = one.event, one.incident
            if event.loud and action_of(event) == "trigger":
                assert not incident.is_quiet
                assert (
                    event.alert is None
                    or not next(alert for alert in reversed(incident.alerts) if alert.key == event.alert).provisional
                )
                assert rank(event.to_state or "ok") > 0
                if incident.kind == "shift" and self.held:
                    assert "silence" in {alert.signal for alert in incident.open_alerts}
            if event.kind in {"silence", "expect"}:
                self.announced.discard(event.incident_id)
            if event.kind == "ends_soon":
                assert incident.is_quiet
                assert event.incident_id not in self.announced
                self.announced.add(event.incident_id)
            if event.kind == "late":
                assert not event.loud
            if event.alert is not None and event.kind in BEGINS:
                assert event.alert not in self.open_since
                self.open_since[event.alert] = event.kind
            if event.alert is not None and event.kind in ENDS:
                del self.open_since[event.alert]
            self.held = ("model", "") in self.open_since
        assert set(self.open_since) == set(self.one.open_keys())
        self.checked = len(self.one.book.happened)

    def teardown(self) -> None:
        for key in self.one.open_keys():
            for reference in (1, 2):
                self.see(key, "ok", False, reference, 0, False, 0.1)
        self.what_is_told_may_be_told_and_every_beginning_has_one_end()
        assert self.open_since == {}


AnyStory.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None, derandomize=True)
TestAnyStory = AnyStory.TestCase
