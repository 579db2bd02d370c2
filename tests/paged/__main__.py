"""From an image to a pager: the real incident told, the monitor killed, everything away for ten minutes.

    python -m tests.paged --only page --json
    python -m tests.paged --only kills --kills 50
    python -m tests.paged --only outage --outage-s 600 --database postgres

A real worker scores the incident of `tests.incident` once; what it wrote is then played, transaction by transaction,
to a real monitor with a webhook, PagerDuty's protocol, a real Alertmanager, Apprise and stdout. The days before, which
are accepted with `oodwatch baseline accept`, and the hours behind the incident are drawn from the recording's own
clean minutes. The clock of the images is 21 hours behind (`max_page_age_hours` lets it be told), so that at the hours
of the day at which it is played no image is expected. Exit 1 where something is not as it must be.
"""

import argparse
import contextlib
import dataclasses
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.records import ENERGY, utc_now
from pipeline.storage.engine import open_database
from tests.faults.soak.databases import PostgresDatabase, SqliteDatabase
from tests.faults.soak.world import Services
from tests.incident.__main__ import CAMERAS, INCIDENT, PER_MINUTE
from tests.incident.pack import prepare
from tests.incident.report import Check
from tests.incident.scenes import Scene
from tests.incident.stage import Site
from tests.incident.tape import record
from tests.paged.account import of_the_channels, of_the_incident, of_the_pages
from tests.paged.listeners import Listeners, listening
from tests.paged.recording import Recording, copied, copied_to_postgres
from tests.paged.stage import Stage, onset_at
from tests.shared_data import CIFAR

PARTS = ("page", "kills", "outage")
_PLAYED = "incident-energy"
_CALIBRATE_ALL_BUT_ONE_IN = 4  # 1,500 images: with fewer than 1,380 nothing is ever paged


def main() -> int:
    """Play what was asked for; a line each."""
    arguments = _arguments()
    if not arguments.pack.is_dir():
        _print("skipped: the evaluation images are not beside the repository")
        return 0
    with contextlib.ExitStack() as stack:
        home = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oodwatch-paged-")))
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # a server that may not run as root keeps its data below it
        services = Services(home)
        stack.callback(services.close)
        show = Show(home, services, arguments, stack)
        show.page()
        if "kills" in arguments.only:
            show.kills()
        if "outage" in arguments.only:
            show.outage()
    _print(
        json.dumps({"checks": len(show.held), "held": sum(show.held)})
        if arguments.json
        else f"\n{sum(show.held)} of {len(show.held)} checks hold"
    )
    return int(not all(show.held))


class Show:
    """Plays and prints; remembers what held."""

    def __init__(
        self, home: Path, services: Services, arguments: argparse.Namespace, stack: contextlib.ExitStack
    ) -> None:
        self._home = home
        self._services = services
        self._arguments = arguments
        self._stack = stack
        self.held: list[bool] = []
        self._recording = self._record()
        self._beginning = self._folder("beginning")
        started = time.monotonic()
        accepted = self._recording.begin(self._beginning, days=arguments.days, seed=arguments.seed)
        known = {} if accepted is None else accepted["summary"]
        self._say(
            "history",
            days=arguments.days,
            seconds=round(time.monotonic() - started),
            **{name: known.get(name) for name in ("minutes", "images", "share", "provisional")},
        )

    def page(self) -> None:
        """With a baseline it is told; without, it is the same and nobody hears of it."""
        site, self._listeners = self._stage("undisturbed")
        self._undisturbed = Stage(site, self._listeners, 0).play(self._recording.tape)
        scene = self._recording.scene
        self._check("with a baseline", of_the_incident(scene, self._undisturbed, site.database, paged=True))
        self._check("with a baseline", of_the_pages(scene, self._undisturbed, self._listeners))
        if "page" not in self._arguments.only:
            return
        home = self._folder("no-baseline")
        self._recording.begin(home, days=0, seed=0)
        listeners = self._listen(home)
        told = Stage(self._site(home, _sqlite(home)), listeners, 0).play(self._recording.tape)
        self._check("without one", of_the_incident(scene, told, _sqlite(home), paged=False))
        heard = sum(len(listeners.bodies(channel)) for channel in (*listeners.servers, "log"))
        self._check("without one", [Check("nothing is told", f"{heard}", not heard and not told.outbox)])

    def kills(self) -> None:
        """kill -9, at any moment and at named points."""
        site, listeners = self._stage("killed")
        told = Stage(site, listeners, self._arguments.seed).play(self._recording.tape, kills=self._arguments.kills)
        self._say("killed", kills=told.kills, where=dict(told.kills_at.most_common()))
        enough = told.kills >= self._arguments.kills
        self._check("killed", [Check("as often as asked", f"{told.kills}", enough)])
        self._check("killed", of_the_channels(told, listeners, self._undisturbed, self._listeners))

    def outage(self) -> None:
        """Every channel is away from the onset on, the database in between; real time."""
        home = self._folder("outage")
        listeners = self._listen(home)
        database: SqliteDatabase | PostgresDatabase
        if self._arguments.database == "postgres":
            database = PostgresDatabase(self._services.postgres)
            copied_to_postgres(self._beginning, database)
        else:
            copied(self._beginning, home)
            database = SqliteDatabase(home / "oodwatch.db")
        tape, scene, lasts = self._recording.tape, self._recording.scene, self._arguments.outage_s
        away = Away(listeners, database, lasts, onset_at(tape, scene, 0), onset_at(tape, scene, 12), len(tape))
        told = Stage(self._site(home, database.url), listeners, 0).play(tape, at=away)
        self._say("outage", database=database.kind, database_s=away.database_s, channels_s=away.channels_s)
        refused = {name: getattr(server.requests, "refused", 0) for name, server in listeners.servers.items()}
        self._say("outage", refused_attempts=refused)
        self._check("outage", of_the_channels(told, listeners, self._undisturbed, self._listeners))

    def _record(self) -> Recording:
        """The incident, by a real worker and a monitor that tells nobody; taken up again where it was kept."""
        world = self._home / "world"
        kept = world / _PLAYED
        if kept.is_dir():
            begin = datetime.fromisoformat((world / "begin").read_text())
            site = Site(kept, world / "resnet20", _sqlite(kept), f"spool:{kept}/images")
            return self._recorded(self._scene(begin), site)
        world.mkdir()
        yesterday = utc_now() - timedelta(days=1)  # an event time in the future would be replaced
        scene = self._scene(yesterday.replace(hour=0, minute=0, second=0, microsecond=0))
        made = prepare(self._arguments.pack, world, [ENERGY], every=_CALIBRATE_ALL_BUT_ONE_IN)
        site = made.site(ENERGY, "incident")
        record(open_database(site.database))
        started = time.monotonic()
        played = site.play(scene, made.pools)
        self._say(
            "recorded",
            images=played.images,
            calibrated=made.references[ENERGY]["n"],
            seconds=round(time.monotonic() - started),
        )
        (world / "begin").write_text(scene.begin.isoformat())
        return self._recorded(scene, site)

    def _recorded(self, scene: Scene, site: Site) -> Recording:
        """At other hours of the day than now, as the traffic of the days before."""
        begin = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=21)
        quiet, seed = self._arguments.quiet_hours, self._arguments.seed
        return Recording.of(scene, site, begin=begin, quiet_hours=quiet, seed=seed)

    def _scene(self, begin: datetime) -> Scene:
        return Scene(begin, INCIDENT, CAMERAS, PER_MINUTE, self._arguments.seed)

    def _stage(self, name: str) -> tuple[Site, Listeners]:
        home = self._folder(name)
        return self._site(home, copied(self._beginning, home)), self._listen(home)

    def _listen(self, home: Path) -> Listeners:
        return self._stack.enter_context(listening(home, real_alertmanager=True))

    def _site(self, home: Path, database: str) -> Site:
        return Site(home, self._recording.site.model, database, self._recording.site.source)

    def _folder(self, name: str) -> Path:
        home = self._home / name
        shutil.rmtree(home, ignore_errors=True)  # of an earlier run
        home.mkdir()
        return home

    def _check(self, part: str, checks: Iterable[Check]) -> None:
        for check in checks:
            self.held.append(check.holds)
            if self._arguments.json:
                _print(json.dumps({"part": part, **dataclasses.asdict(check)}))
            else:
                _print(f"{'ok  ' if check.holds else 'NOT '}  {part}: {check.what}: {check.found}")

    def _say(self, part: str, **figures: Any) -> None:
        if self._arguments.json:
            _print(json.dumps({"part": part, **figures}, default=str))
        else:
            _print(f"      {part}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))


class Away:
    """Everything is away for so long: called before each transaction of the tape."""

    def __init__(
        self,
        listeners: Listeners,
        database: SqliteDatabase | PostgresDatabase,
        lasts_s: float,
        channels_at: int,
        database_at: int,
        end: int,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._listeners = listeners
        self._database = database
        self._lasts_s = lasts_s
        self._at = {channels_at: self._hang_up, database_at: self._stop, end: self._answer}
        self._sleep = sleep
        self._hung_up = 0.0
        self.database_s = self.channels_s = 0.0

    def __call__(self, number: int) -> None:
        if number in self._at:
            self._at[number]()

    def _hang_up(self) -> None:
        self._hung_up = time.monotonic()
        self._listeners.away.set()

    def _stop(self) -> None:
        began = time.monotonic()
        if isinstance(self._database, PostgresDatabase):
            self._database.server.stop("immediate")
            self._sleep(self._lasts_s)
            self._database.server.start()
        else:
            with self._database.locked():
                self._sleep(self._lasts_s)
        self.database_s = time.monotonic() - began

    def _answer(self) -> None:
        self._sleep(max(0.0, self._hung_up + self._lasts_s - time.monotonic()))
        self.channels_s = time.monotonic() - self._hung_up
        self._listeners.away.clear()


def _sqlite(home: Path) -> str:
    return f"sqlite:///{home / 'oodwatch.db'}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.paged", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="default: all of them")
    parser.add_argument(
        "--days", type=int, default=4, help="of accepted clean history (default 4: three that are whole page)"
    )
    parser.add_argument("--quiet-hours", type=int, default=4, help="clean ones behind the scene, drawn too (default 4)")
    parser.add_argument("--kills", type=int, default=50, help="of the monitor (default 50)")
    parser.add_argument("--outage-s", type=float, default=600.0, metavar="S", help="real seconds (default 600)")
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="postgres", help="of the outage")
    parser.add_argument("--pack", type=Path, metavar="DIR", default=CIFAR, help="the images (default: beside here)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="JSON lines")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep databases and what the processes printed there")
    return parser.parse_args()


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
