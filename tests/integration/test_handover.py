"""A running worker is given another model: nothing lost, nothing twice, every row by the model that it names."""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine, text

from pipeline.assembly.handover import promote, register, rollback
from pipeline.assembly.working import run_worker
from pipeline.models.package import load_package
from pipeline.records import utc_now
from pipeline.settings import HttpSettings, Settings, load_settings
from pipeline.shift.rollup import decode
from pipeline.stages import handover
from pipeline.storage.engine import open_database
from pipeline.storage.model_events import PROMOTED, add_event
from tests.repaired import repaired
from tests.services.processes import wait_until
from tests.tiny import Deployment, energies, make_deployment, pixels, png

PARTITIONS = 2


@dataclass
class Site:
    """A deployment with candidates, and its worker in a thread of this process."""

    deployment: Deployment
    engine: Engine
    models: dict[str, str] = field(default_factory=dict)  # model id -> its weights' file
    hashes: dict[str, str] = field(default_factory=dict)  # name -> package
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)  # what lies at a place
    said: list[str] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return load_settings(**{**dict(self.deployment.settings()), "http": HttpSettings(listen="off")})

    def candidate(self, name: str, seed: int) -> None:
        folder = repaired(self.deployment, name, seed=seed)
        self.models[load_package(folder).model_id] = f"{name}.pt"
        self.hashes[name] = register(self.settings, folder, name=None, who="ann", why="").package.hash

    def produce(self, numbers: Sequence[int], *, magic: Sequence[int] = ()) -> None:
        values: list[bytes | None] = [png(number, magic=number in magic) for number in numbers]
        places = self.deployment.produce(values, partitions=PARTITIONS)
        self.numbers |= dict(zip(places, numbers, strict=True))

    def promote(self, name: str) -> None:
        promote(self.settings, name, reference=None, who="ann", why="better")

    def query(self, statement: str) -> list[Any]:
        with self.engine.begin() as conn:
            answer = conn.execute(text(statement))
            return [tuple(row) for row in answer] if answer.returns_rows else []

    def stored(self) -> int:
        return int(self.query("SELECT coalesce(sum(scored + dead), 0) FROM stream")[0][0])

    def wait_for_all(self) -> None:
        wait_until(lambda: self.stored() == len(self.numbers), "everything stored", deadline_s=300)

    def wait_for(self, words: str) -> None:
        wait_until(lambda: any(words in line for line in self.said), words)

    @contextmanager
    def working(self) -> Iterator[None]:
        """What ended the worker before its time is raised."""
        stop = threading.Event()
        failure: list[BaseException] = []

        def work() -> None:
            try:
                run_worker(self.settings, start_at="earliest", drain=False, stop=stop, say=self.said.append)
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        try:
            self.wait_for(", reading spool:")
            yield
        finally:
            stop.set()
            thread.join(60)
            if failure:
                raise failure[0]

    def rows_by_model(self) -> Counter[str]:
        """Rows by model, once each of them is checked: its place once, its energy by that model, not by another."""
        columns = 's.partition, r."offset", r.energy, r.is_ood, f.model_id, f.threshold'
        joined = "score r JOIN stream s ON s.id = r.stream_id JOIN reference f ON f.id = r.reference_id"
        rows = self.query(f'SELECT {columns} FROM {joined} ORDER BY s.partition, r."offset"')
        assert len({row[:2] for row in rows}) == len(rows)
        pictures = np.stack([pixels(self.numbers[row[:2]]) for row in rows])
        by_model = {model: energies(pictures, self.deployment.home / file) for model, file in self.models.items()}
        alone = 0
        for at, row in enumerate(rows):
            near = [model for model, values in by_model.items() if abs(values[at] - row[2]) < 1e-4]
            assert row[4] in near, row
            alone += near == [row[4]]
            assert bool(row[3]) == (row[2] > row[5])
        assert alone > 0.95 * len(rows)
        return Counter(row[4] for row in rows)

    def order_of_models(self) -> list[list[str]]:
        """Per partition, the models in the order of the offsets, repetitions left out."""
        rows = self.query(
            "SELECT s.partition, f.model_id FROM score r JOIN stream s ON s.id = r.stream_id"
            ' JOIN reference f ON f.id = r.reference_id ORDER BY s.partition, r."offset"'
        )
        found: list[list[str]] = [[] for _ in range(PARTITIONS)]
        for partition, model in rows:
            if not found[partition] or found[partition][-1] != model:
                found[partition].append(model)
        return found


@pytest.fixture(params=["sqlite", "postgresql"])
def site(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(handover, "INTERVAL_S", 0.05)
    monkeypatch.setenv("OODWATCH_STATE_DIR", str(tmp_path / "state"))
    url = None if request.param == "sqlite" else str(request.getfixturevalue("migrated_postgres_url"))
    deployment = make_deployment(tmp_path / "home", database_url=url)
    engine = open_database(deployment.database)
    site = Site(deployment, engine, {load_package(deployment.model).model_id: "weights.pt"})
    for seed, name in enumerate(("a", "b"), 1):
        site.candidate(name, seed)
    yield site
    engine.dispose()


def test_models_change_under_load_and_every_row_is_by_the_one_that_it_names(site: Site) -> None:
    numbers = iter(range(10_000))

    def send(count: int) -> None:
        site.produce([next(numbers) for _ in range(count)])

    base, a, b = site.models
    send(40)
    with site.working():
        wait_until(lambda: site.stored() == 40, "the first forty")
        for name, model in (("a", a), ("b", b)):
            site.promote(name)
            while not any(f"from now on {model}" in line for line in site.said):
                send(20)
            send(20)
        for model in (a, base):
            rollback(site.settings, who="bob", why="no")
            site.said.clear()
            while not any(f"from now on {model}" in line for line in site.said):
                send(20)
            send(20)
        site.wait_for_all()
    counts = site.rows_by_model()
    assert sum(counts.values()) == len(site.numbers)
    assert min(counts[model] for model in (base, a, b)) >= 20
    for order in site.order_of_models():
        assert order == [base, a, b, a, base]
    # What is folded into ticks, and what is kept to be looked at, names the same references as the rows do.
    rows = dict(site.query("SELECT reference_id, count(*) FROM score GROUP BY reference_id"))
    parts: Counter[int] = Counter()
    for reference, content in site.query("SELECT reference_id, content FROM roll_up_part WHERE segment_id IS NULL"):
        parts[reference] += decode(bytes(content)).n
    assert parts == rows
    assert site.query(
        'SELECT count(*) FROM sample p JOIN score r ON r.stream_id = p.stream_id AND r."offset" = p."offset"'
        " WHERE p.reference_id <> r.reference_id"
    ) == [(0,)]
    assert site.query("SELECT d.model_id, r.name FROM deployment d JOIN reference r ON r.id = d.reference_id") == [
        (base, "tiny-r1")
    ]


def test_a_corrupt_candidate_leaves_the_old_one_serving_and_a_rollback_is_heard(site: Site) -> None:
    base, a, _ = site.models
    site.produce(range(20))
    with site.working():
        site.promote("a")
        site.wait_for(f"from now on {a}")
        bad = site.hashes["b"]
        site.query(f"UPDATE model_package_chunk SET content = substr(content, 2) WHERE hash = '{bad}'")
        with site.engine.begin() as conn:
            ((deployment, reference),) = conn.execute(text("SELECT id, reference_id FROM deployment")).all()
            add_event(
                conn,
                PROMOTED,
                deployment_id=deployment,
                package=bad,
                reference_id=reference,
                who="ann",
                why="",
                now=utc_now(),
            )
        wait_until(lambda: site.query("SELECT count(*) FROM model_event WHERE kind = 'refused'") == [(1,)], "a refusal")
        site.produce(range(20, 60))
        site.wait_for_all()
        ((why, package),) = site.query("SELECT why, package FROM model_event WHERE kind = 'refused'")
        assert (package, why.split(":")[0]) == (bad, f"package {bad[:12]} is corrupt")
        back = rollback(site.settings, who="bob", why="it is corrupt")
        assert back.model == a
        rollback(site.settings, who="bob", why="and further")
        site.wait_for(f"from now on {base}")
        site.produce(range(60, 100))
        site.wait_for_all()
    assert site.query("SELECT count(*) FROM model_event WHERE kind = 'refused'") == [(1,)]
    counts = site.rows_by_model()
    assert (counts.total(), counts[a] >= 40, counts[base] >= 40) == (100, True, True)


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_promotion_while_a_record_that_kills_is_being_isolated(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_MAGIC", "die")
    base, a, _ = site.models
    site.produce(range(4))
    with site.working():
        site.wait_for_all()
    site.produce(range(4, 64), magic=[17])
    site.query("UPDATE stream SET attempts = 3")
    site.said.clear()
    with site.working():
        site.promote("a")
        site.wait_for(f"from now on {a}")
        site.produce(range(64, 104))
        site.wait_for_all()
    assert site.query("SELECT reason FROM dead_letter") == [("crash",)]
    counts = site.rows_by_model()
    assert (counts.total(), counts[base] >= 4, counts[a] >= 40) == (103, True, True)
