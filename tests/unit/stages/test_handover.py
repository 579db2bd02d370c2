"""What the writer thread does about the registry, step by step: its clock and the side thread are the test's."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from pipeline.errors import RefusedError
from pipeline.stages.flow import Progress
from pipeline.stages.handover import INTERVAL_S, Handover
from pipeline.stages.retry import Retry
from pipeline.stages.serving import Generation, Serving
from pipeline.storage.deployments import ensure_deployment
from pipeline.storage.engine import open_database
from pipeline.storage.model_events import PROMOTED, Activation, add_event, list_events
from pipeline.storage.references import save_reference
from tests.faults.scored import NOW, reference


def generation(model_id: str, reference_id: int, closed: list[str]) -> Generation:
    anything: Any = SimpleNamespace()
    close = lambda: closed.append(model_id)  # noqa: E731
    return Generation(model_id, None, replace(reference(), id=reference_id), anything, anything, close, {"device": "x"})


class Scene:
    """A worker whose registry, side thread and clock the test moves."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        with engine.begin() as conn:
            self.references = [
                save_reference(conn, replace(reference(), name=f"m-r{version}", version=version))
                for version in (1, 2, 3)
            ]
            self.deployment = ensure_deployment(conn, "d", model_id="m@1", reference_id=self.references[0], now=NOW)
        self.now_s = 100.0
        self.closed: list[str] = []
        self.swapped: list[str] = []
        self.loaded: list[int] = []
        self.let_go = threading.Event()
        self.let_go.set()
        self.answer: Callable[[Activation], Generation] = self.good
        self.serving = Serving(generation("m@1", self.references[0], self.closed))
        self.retry = Retry(engine.url, threading.Event(), progress=Progress(), jitter=lambda: 0.0)
        self.chore = Handover(
            engine,
            self.serving,
            self._load,
            deployment_id=self.deployment,
            seen=0,
            owner="host:1",
            clock=lambda: NOW,
            monotonic=lambda: self.now_s,
            on_swap=lambda made: self.swapped.append(made.model_id),
        )

    def good(self, activation: Activation) -> Generation:
        return generation(f"m@{activation.reference_id}", activation.reference_id, self.closed)

    def promote(self, version: int) -> int:
        with self.engine.begin() as conn:
            return add_event(
                conn,
                PROMOTED,
                deployment_id=self.deployment,
                package=None,
                reference_id=self.references[version - 1],
                who="ann",
                why="",
                now=NOW,
            )

    def turn(self) -> None:
        """The writer thread comes round after the interval."""
        self.now_s += INTERVAL_S
        self.chore(self.retry)

    def settle(self) -> None:
        """Until the side thread has answered, and the writer thread has heard it."""
        coming = self.chore.coming
        assert coming is not None
        coming.generation.exception(timeout=30)
        self.chore(self.retry)

    def _load(self, activation: Activation) -> Generation:
        self.loaded.append(activation.id)
        self.let_go.wait(30)
        return self.answer(activation)


@pytest.fixture
def scene(tmp_path: Any) -> Iterator[Scene]:
    engine = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    scene = Scene(engine)
    yield scene
    scene.let_go.set()
    scene.chore.close()
    engine.dispose()


def test_nothing_is_loaded_until_somebody_promotes_and_nobody_asks_more_often_than_the_interval(scene: Scene) -> None:
    scene.turn()
    scene.promote(2)
    scene.chore(scene.retry)
    assert (scene.loaded, scene.chore.coming) == ([], None)
    scene.turn()
    scene.settle()
    assert scene.serving.current.model_id == "m@2"


def test_the_deployment_names_the_new_reference_before_it_scores(scene: Scene) -> None:
    scene.promote(2)
    scene.turn()
    scene.settle()
    assert (scene.serving.current.reference.id, scene.serving.refused) == (2, None)
    assert scene.swapped == ["m@2"]
    with scene.engine.connect() as conn:
        assert conn.execute(text("SELECT model_id, reference_id FROM deployment")).one() == ("m@2", 2)
    scene.turn()
    assert len(scene.loaded) == 1
    assert scene.closed == []  # the model thread closes the former one, once nothing of it is left


def test_a_refused_candidate_is_told_once_and_tried_again_only_when_the_registry_changes(scene: Scene) -> None:
    def refuse(activation: Activation) -> Generation:
        raise RefusedError("weights are\nodd")

    scene.answer = refuse
    event = scene.promote(2)
    scene.turn()
    scene.settle()
    for _ in range(3):
        scene.turn()
    assert scene.loaded == [event]
    assert (scene.serving.current.model_id, scene.serving.refused) == ("m@1", "weights are odd")
    with scene.engine.connect() as conn:
        told = list_events(conn, "d")[-1]
    assert (told.event, told.of_event, told.who, told.why) == ("refused", event, "host:1", "weights are odd")
    scene.answer = scene.good
    scene.promote(3)
    scene.turn()
    scene.settle()
    assert (scene.serving.current.model_id, scene.serving.refused) == ("m@3", None)


def test_a_candidates_own_code_may_raise_anything(scene: Scene) -> None:
    def leave(activation: Activation) -> Generation:
        raise SystemExit("bye")

    scene.answer = leave
    scene.promote(2)
    scene.turn()
    scene.settle()
    assert scene.serving.refused == "SystemExit: bye"


def test_back_to_what_scores_still_needs_no_loading(scene: Scene) -> None:
    def refuse(activation: Activation) -> Generation:
        raise RefusedError("no")

    scene.answer = refuse
    scene.promote(2)
    scene.turn()
    scene.settle()
    scene.promote(1)
    scene.turn()
    assert (len(scene.loaded), scene.chore.coming, scene.serving.refused) == (1, None, None)


def test_a_candidate_that_was_superseded_while_it_was_loaded_never_scores(scene: Scene) -> None:
    scene.let_go.clear()
    scene.promote(2)
    scene.turn()
    scene.promote(3)
    scene.turn()  # does not wait for the side thread
    assert len(scene.loaded) <= 1
    scene.let_go.set()
    scene.settle()
    assert (scene.serving.current.model_id, scene.closed) == ("m@1", ["m@2"])
    scene.turn()
    scene.settle()
    assert (scene.serving.current.model_id, scene.swapped) == ("m@3", ["m@3"])


def test_a_database_that_is_away_while_the_package_is_read_is_no_refusal(scene: Scene) -> None:
    def away(activation: Activation) -> Generation:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    scene.answer = away
    scene.promote(2)
    scene.turn()
    scene.settle()
    assert scene.serving.refused is None
    scene.answer = scene.good
    scene.turn()
    scene.settle()
    assert scene.serving.current.model_id == "m@2"
