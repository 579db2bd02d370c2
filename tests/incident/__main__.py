"""A camera is shown textures for an hour: found, named, and over again?

    python -m tests.incident --only scenarios --score energy
    python -m tests.incident --only kills --kills 50 --database postgres

CIFAR-10 images at 300 a minute from five cameras through a real worker and monitor, on a clock that follows
the images. Minutes count in event time, from the onset to the moment at which a live monitor says so: half
a minute after the end of the tick. Exit 1 where something is not as it must be.
"""

import argparse
import contextlib
import random
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from pipeline.records import ENERGY, ENERGY_RESIDUAL, utc_now
from pipeline.storage.engine import open_database
from tests.faults.soak.databases import PostgresDatabase
from tests.faults.soak.world import Services
from tests.incident.kills import work_through
from tests.incident.pack import FROZEN, Calibrated, make_topic, prepare
from tests.incident.report import Check, changes_table, checks, first_found, found_by, table
from tests.incident.scenes import Phase, Scene
from tests.incident.stage import Site
from tests.incident.tape import copy_beginning, record, recorded
from tests.monitored import everything
from tests.shared_data import CIFAR

CAMERAS = tuple(f"cam-{i}" for i in range(1, 6))
WRONG = ("cam-3",)
PER_MINUTE = 300
SCORES = (ENERGY, ENERGY_RESIDUAL)
PARTS = ("incident", "scenarios", "kills")
INCIDENT = (Phase(120), Phase(60, "dtd", 0.6, WRONG), Phase(120))
#: What is wrong for half an hour after a clean one.
SCENARIOS: Mapping[str, Phase] = {
    "blur_s1, all": Phase(30, "blur_s1"),
    "frozen, all": Phase(30, FROZEN),
    "frozen, one camera": Phase(30, FROZEN, segments=WRONG),
    "noise_s25, all": Phase(30, "noise_s25"),
    "static, all": Phase(30, "static"),
    "svhn, all": Phase(30, "svhn"),
    "svhn, one camera": Phase(30, "svhn", segments=WRONG),
    "hflip, all (control)": Phase(30, "hflip"),
}


def main() -> int:
    """Play what was asked for; a table each."""
    arguments = _arguments()
    if not arguments.pack.is_dir():
        _print("skipped: the evaluation images are not beside the repository")
        return 0
    held: list[bool] = []
    with contextlib.ExitStack() as stack:
        home = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oodwatch-incident-")))
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # a server that may not run as root keeps its data below it
        services = Services(home)
        stack.callback(services.close)
        show = Show(prepare(arguments.pack, home, arguments.score), services, arguments)
        for score in arguments.score:
            if "scenarios" in arguments.only:
                show.scenarios(score)
            if "incident" in arguments.only or ("kills" in arguments.only and score == arguments.score[0]):
                site = show.incident(score)
                if "kills" in arguments.only and score == arguments.score[0]:
                    show.kills(site)
        held = show.held
    _print(f"\n{sum(held)} of {len(held)} checks hold")
    return int(not all(held))


class Show:
    """Plays and prints; remembers what held."""

    def __init__(self, world: Calibrated, services: Services, arguments: argparse.Namespace) -> None:
        self._world = world
        self._services = services
        self._arguments = arguments
        yesterday = utc_now() - timedelta(days=1)  # an event time in the future would be replaced
        self._begin = yesterday.replace(hour=0, minute=0, second=0, microsecond=0)
        self.held: list[bool] = []

    def incident(self, score: str) -> Site:
        """Two hours clean, an hour of textures in one segment, two hours clean."""
        source = None
        if self._arguments.kafka:
            source = f"kafka://{self._services.broker.bootstrap}/incident-{SCORES.index(score)}"
            make_topic(source)
        site = self._world.site(score, "incident", source)
        record(open_database(site.database))
        scene = self._scene(INCIDENT)
        played = site.play(scene, self._world.pools)
        reference = self._world.references[score]
        _print(
            f"\n{score}: {scene.minutes / 60:g} h, {played.images:,} images, {WRONG[0]} at 60 % dtd from minute 0 to"
            f" {scene.wrong.minutes}; threshold {reference['threshold']:.4f} of {reference['n']:,} images"
        )
        _print(changes_table(scene, played))
        high = reference["p0_high"]
        rate = f"{played.normal_rate:.4f}, p0+ {high:.4f}"
        self._check(Check("the other half keeps its flag rate under p0+", rate, played.normal_rate < high))
        for check in checks(scene, played):
            self._check(check)
        return site

    def scenarios(self, score: str) -> None:
        """What is found of other failures, and by what; nothing is asked but silence before the onset."""
        rows = [("what", "min", "raised: stream, state, min after the onset")]
        early: list[str] = []
        for what, phase in SCENARIOS.items():
            scene = self._scene((Phase(30), phase))
            name = "".join(letter if letter.isalnum() else "-" for letter in what)
            played = self._world.site(score, name).play(scene, self._world.pools)
            rows.append((what, first_found(scene, played), found_by(scene, played) or "nothing"))
            early += [what for change in played.changes if change.tick < scene.onset]
        _print(f"\n{score}: half an hour clean, then half an hour of")
        _print(table(rows))
        self._check(Check("nothing raised before an onset", ", ".join(early) or "nothing", not early))

    def kills(self, site: Site) -> None:
        """The recorded incident once more, undisturbed and with monitors killed."""
        source = open_database(site.database)
        tape, live = recorded(source), everything(source)
        _print(
            f"\nthe same incident from {len(tape):,} recorded transactions of the worker, {self._arguments.database}"
        )
        for title, count, monitors in (("undisturbed", 0, 1), ("killed", 1, 1), ("two, killed in turn", 1, 2)):
            home = site.home / title.replace(" ", "-").replace(",", "")
            home.mkdir()
            again = Site(home, site.model, self._database(home), site.source)
            engine = open_database(again.database)
            copy_beginning(source, engine)
            survived = work_through(
                again,
                engine,
                tape,
                kills=count * self._arguments.kills,
                monitors=monitors,
                rng=random.Random(self._arguments.seed),
                pause_s=0.05,
            )
            engine.dispose()
            differences = survived.differences(live)
            counts = ", ".join(f"{len(rows)} {name}" for name, rows in survived.rows.items())
            where = ", ".join(f"{point} {times}" for point, times in survived.kills_at.most_common())
            self._check(Check(f"{title}: all rows as live", "; ".join(differences) or counts, not differences))
            if count:
                _print(f"      {survived.kills} kills: {where}")
                self._check(
                    Check("killed as often as asked", f"{survived.kills}", survived.kills >= self._arguments.kills)
                )
        source.dispose()

    def _database(self, home: Path) -> str:
        if self._arguments.database == "postgres":
            return PostgresDatabase(self._services.postgres).url
        return f"sqlite:///{home / 'oodwatch.db'}"

    def _scene(self, phases: tuple[Phase, ...]) -> Scene:
        return Scene(self._begin, phases, CAMERAS, PER_MINUTE, self._arguments.seed)

    def _check(self, check: Check) -> None:
        self.held.append(check.holds)
        _print(f"{'ok  ' if check.holds else 'NOT '}  {check.what}: {check.found}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.incident", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: all of them")
    parser.add_argument("--score", nargs="+", choices=SCORES, default=SCORES, help="default: both")
    parser.add_argument("--kills", type=int, default=50, help="of the monitor (default 50)")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite", help="of the killed monitors")
    parser.add_argument("--kafka", action="store_true", help="the incident through a broker instead of a spool")
    parser.add_argument("--pack", type=Path, metavar="DIR", default=CIFAR, help="the images (default: beside here)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep databases and what the processes printed there")
    return parser.parse_args()


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
