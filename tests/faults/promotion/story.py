"""What happens: two promotions, a corrupt one, two roll-backs, all while records flow."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import text

from pipeline.assembly.handover import promote, register, rollback
from pipeline.models.package import load_package
from pipeline.records import utc_now
from pipeline.settings import Settings, load_settings
from pipeline.storage.model_events import PROMOTED, add_event
from tests.faults.soak.world import World
from tests.repaired import repaired
from tests.services.processes import wait_until


@dataclass
class Story:
    """Acts upon a world whose workers read; `taken` notes how long until all workers scored by what was chosen."""

    world: World
    settings: Settings
    base: str
    models: dict[str, str] = field(default_factory=dict)  # name -> model id
    hashes: dict[str, str] = field(default_factory=dict)  # name -> package
    taken_s: list[float] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @classmethod
    def prepare(cls, world: World) -> "Story":
        """Two good candidates and one that will be damaged."""
        settings = load_settings(
            **{**dict(world.deployment.settings()), "database": world.database.url, "deployment": world.home.name}
        )
        story = cls(world, settings, load_package(world.deployment.model).model_id)
        for seed, name in enumerate(("a", "b", "damaged"), 1):
            folder = repaired(world.deployment, name, seed=seed)
            story.models[name] = load_package(folder).model_id
            world.candidates[story.models[name]] = world.deployment.home / f"{name}.pt"
            story.hashes[name] = register(settings, folder, name=None, who="harness", why="").package.hash
        return story

    def act(self, wait: Callable[[], None]) -> None:
        """`wait` lets some more records flow."""
        wait()
        self.change(lambda: promote(self.settings, "a", reference=None, who="harness", why="a"), self.models["a"])
        wait()
        self.damage()
        wait()
        self.change(lambda: rollback(self.settings, who="harness", why="corrupt"), self.models["a"])
        self.change(lambda: promote(self.settings, "b", reference=None, who="harness", why="b"), self.models["b"])
        wait()
        for model in (self.models["a"], self.base):
            self.change(lambda: rollback(self.settings, who="harness", why="back"), model)
            wait()

    def change(self, choose: Callable[[], object], model: str) -> None:
        """Choose a model, and wait until each worker says that it scores."""
        began = time.monotonic()
        choose()
        wait_until(lambda: all(heard == model for heard in self._scoring()), f"all workers score by {model}")
        self.taken_s.append(round(time.monotonic() - began, 2))

    def damage(self) -> None:
        """A promotion whose package is damaged before anybody has read it; until every worker has refused it."""
        package = self.hashes["damaged"]
        with self.world.engine.begin() as conn:
            conn.execute(
                text("UPDATE model_package_chunk SET content = substr(content, 2) WHERE hash = :hash"),
                {"hash": package},
            )
            chosen = conn.execute(
                text(
                    "SELECT d.id, r.id FROM deployment d JOIN reference r ON r.model_id = :model WHERE d.name = :name"
                ),
                {"model": self.models["damaged"], "name": self.world.home.name},
            ).one()
            event = add_event(
                conn,
                PROMOTED,
                deployment_id=chosen[0],
                package=package,
                reference_id=chosen[1],
                who="harness",
                why="damaged",
                now=utc_now(),
            )
        workers = len(self.world.fleet.alive())
        wait_until(lambda: len(self._refusals(event)) == workers, "every worker refuses the damaged package")
        self.refused = self._refusals(event)

    def _refusals(self, event: int) -> list[str]:
        with self.world.engine.connect() as conn:
            statement = text("SELECT why FROM model_event WHERE kind = 'refused' AND of_event = :event")
            return list(conn.scalars(statement, {"event": event}))

    def _scoring(self) -> list[str | None]:
        """The model that each living worker said last that it scores by."""
        return [member.scoring for member in self.world.fleet.alive()]
