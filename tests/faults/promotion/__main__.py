"""Promotion under load, on a real Kafka and PostgreSQL with two workers.

    python -m tests.faults.promotion --records 10000 --json

Two promotions, one whose package is damaged, and three roll-backs while records flow. Then every record is accounted
for, as in tests.faults.soak, and each row's energy is computed anew by the model that the row names. Exit 1 where
anything is lost, duplicated or wrong.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from tests.faults.promotion.report import Pauses, pauses, rows_by_model
from tests.faults.promotion.story import Story
from tests.faults.soak.databases import PostgresDatabase
from tests.faults.soak.kafka_log import KafkaLog
from tests.faults.soak.oracle import Verdict
from tests.faults.soak.traffic import Traffic
from tests.faults.soak.world import Services, World, new_home

WORKERS, PARTITIONS = 2, 4
_SENT_AGAIN = 200  # images of the beginning, once the first model scores again


def main() -> int:
    """Run it; one JSON object, or lines for a person."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory(prefix="oodwatch-promotion-") as folder:
        Path(folder).chmod(0o755)  # a server that may not run as root keeps its data below it
        services = Services(Path(folder))
        try:
            told = run(services, records=arguments.records, rate=arguments.rate, seed=arguments.seed)
        finally:
            services.close()
    text = json.dumps(told) if arguments.json else "\n".join(f"{name}: {value}" for name, value in told.items())
    print(text, flush=True)  # noqa: T201
    return int(not told["passed"])


def run(services: Services, *, records: int, rate: float, seed: int) -> dict[str, object]:
    """The whole story; what came of it."""
    home = new_home(services, "promotion")
    log = KafkaLog(services.broker.bootstrap, home.name, PARTITIONS)
    world = World(
        home,
        PostgresDatabase(services.postgres),
        log,
        records=records,
        rng=random.Random(seed),
        brokers=[services.broker],
    )
    world.fleet.note_batches = True
    try:
        story = Story.prepare(world)
        world.fleet.start_many(WORKERS)
        traffic = world.send(1 - _SENT_AGAIN / records, rate=rate or None)
        began = time.monotonic()
        story.act(_waiter(traffic, records))
        traffic.wait()
        took_s = time.monotonic() - began
        world.drain()
        world.send_again(range(_SENT_AGAIN))
        world.settle()
        weights = world.candidates | {story.base: world.deployment.home / "weights.pt"}
        return _told(world, story, world.verdict(), pauses(sorted(home.glob("*.batches"))), weights, took_s)
    finally:
        world.close()


def _waiter(traffic: Traffic, records: int) -> Callable[[], None]:
    """Each call lets a tenth of the records flow."""

    def wait() -> None:
        until = traffic.sent + records // 10
        while traffic.sent < until and traffic.flows():
            time.sleep(0.02)

    return wait


def _told(
    world: World, story: Story, verdict: Verdict, paused: Pauses, weights: dict[str, Path], took_s: float
) -> dict[str, object]:
    rows = rows_by_model(world.engine, world.journal, weights, story.base)
    names = {story.base: "base"} | {model: name for name, model in story.models.items()}
    by_model = {names[model]: count for model, count in rows.by_model.items()}
    passed = (
        verdict.is_clean
        and not world.fleet.failures
        and rows.ambiguous < verdict.scored // 1000  # by chance two models agree to 1e-4 nats on one image in thousands
        and by_model["damaged"] == 0
        and all(by_model[name] for name in ("base", "a", "b"))
        and len(story.refused) == WORKERS
        and all("is corrupt" in why for why in story.refused)
    )
    account = {name: value for name, value in asdict(verdict).items() if name != "remarks"}
    return {
        "passed": passed,
        **account,
        "remarks": list(verdict.remarks) + world.fleet.failures,
        "rows_by_model": by_model,
        "rows_that_two_models_explain_by_chance": rows.ambiguous,
        "refused_by_workers": len(story.refused),
        "taken_by_all_workers_s": story.taken_s,
        "scored_twice_by_base": rows.twice,
        "of_them_same_bytes": rows.same_bytes,
        "batches": paused.batches,
        "swaps": paused.swaps,
        "batch_ms_median_p95_max": paused.batch_ms,
        "idle_between_batches_ms_median_p95_max": paused.idle_ms,
        "idle_at_a_swap_ms_median_max": paused.swap_ms,
        "records_per_s": round(verdict.acknowledged / took_s),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.promotion",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument(
        "--rate", type=float, default=300.0, help="records a second (default 300); 0: as fast as it goes"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
