"""An incident in little, through a real worker and monitor; and the monitor killed while it works through it."""

import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from pipeline.records import utc_now
from pipeline.storage.engine import open_database
from tests.incident.kills import work_through
from tests.incident.report import checks
from tests.incident.scenes import NORMAL, Phase, Scene
from tests.incident.stage import Played, Site
from tests.incident.tape import copy_beginning, record, recorded
from tests.monitored import everything
from tests.tiny import Deployment, energies, pixels, png

pytestmark = pytest.mark.integration

STRANGE = "strange"
SEGMENTS = ("north", "south")
KILLS = 4


def pools(deployment: Deployment) -> dict[str, list[bytes]]:
    """Pictures as those of the calibration, and the most unusual one of a thousand."""
    seeds = range(20_000, 21_000)
    unusual = energies(np.stack([pixels(seed) for seed in seeds]), deployment.home / "weights.pt")
    return {NORMAL: [png(seed) for seed in seeds[:200]], STRANGE: [png(seeds[int(np.argmax(unusual))])]}


@pytest.fixture(scope="module")
def scene() -> Scene:
    begin = (utc_now() - timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return Scene(begin, (Phase(3), Phase(4, STRANGE, 0.5, ("south",)), Phase(2)), SEGMENTS, 80, seed=1)


@pytest.fixture(scope="module")
def site(template: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Site:
    home = tmp_path_factory.mktemp("incident")
    (home / "oodwatch.db").write_bytes((template.home / "oodwatch.db").read_bytes())
    site = Site(home, template.model, f"sqlite:///{home / 'oodwatch.db'}", f"spool:{home}/images")
    record(open_database(site.database))
    return site


@pytest.fixture(scope="module")
def played(site: Site, template: Deployment, scene: Scene) -> Played:
    return site.play(scene, pools(template))


def test_a_strange_segment_is_raised_named_and_dated(scene: Scene, played: Played) -> None:
    told = [(change.stream, change.after, change.onset) for change in played.changes]
    assert played.images == scene.minutes * scene.per_minute
    assert ("segment:south", "critical", scene.onset) in told
    assert {stream for stream, _, _ in told} <= {"pooled", "segment:south"}
    assert all(check.holds for check in checks(scene, played) if "before" in check.what or "top" in check.what)


def test_the_monitor_says_what_it_stores(played: Played) -> None:
    printed = {(line["stream"], line["before"], line["after"]) for line in played.printed}
    stored = {(change.stream, change.before, change.after) for change in played.changes}
    assert stored == printed


@pytest.mark.parametrize("monitors", [1, 2])
def test_monitors_killed_on_the_way_leave_the_same_rows(
    site: Site, played: Played, tmp_path: Path, monitors: int
) -> None:
    source = open_database(site.database)
    again = Site(tmp_path, site.model, f"sqlite:///{tmp_path / 'again.db'}", site.source)
    engine = open_database(again.database)
    copy_beginning(source, engine)
    survived = work_through(
        again, engine, recorded(source), kills=KILLS, monitors=monitors, rng=random.Random(monitors)
    )
    assert survived.kills >= KILLS
    assert survived.differences(everything(source)) == []
    assert len(survived.rows["transition"]) >= len(played.changes) > 0
    for one in (source, engine):
        one.dispose()
