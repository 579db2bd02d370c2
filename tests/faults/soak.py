"""Kill the worker again and again under load, then account for every record. `make soak`.

    python -m tests.faults.soak --records 20000 --kills 40

Oracle: every (partition, offset, sha256) that the spool acknowledged, against the rows and dead
letters. lost = acknowledged and not stored; duplicated = stored twice; alien = stored, but never sent.
"""

import argparse
import hashlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import create_engine, text

from pipeline.ingest.spool import NewRecord
from tests.tiny import Deployment, make_deployment, png

PARTITIONS = 4


@dataclass(frozen=True)
class Outcome:
    """What the storm left behind."""

    acknowledged: int
    poison: int
    kills: int
    kills_while_working: int
    scored: int
    dead: int
    lost: int
    duplicated: int
    alien: int
    ledger_exact: bool
    seconds: float


def storm(home: Path, *, records: int, kills: int, seed: int, poison_share: float = 0.02) -> Outcome:
    """Produce steadily while a worker process is started and killed; then drain and reconcile."""
    began = time.monotonic()
    rng = random.Random(seed)
    deployment = make_deployment(home)
    acknowledged: dict[tuple[int, int], str] = {}
    poison = [0]
    done = threading.Event()
    rate = records / (kills * 7.0)

    def produce() -> None:
        spool = deployment.spool(PARTITIONS)
        sent = 0
        while sent < records:
            batch = [_value(rng, sent + i, poison_share, poison) for i in range(min(20, records - sent))]
            places = spool.append([NewRecord(value) for value in batch])
            acknowledged.update(
                (place, hashlib.sha256(value).hexdigest()) for place, value in zip(places, batch, strict=True)
            )
            sent += len(batch)
            time.sleep(len(batch) / rate)
        spool.close()
        done.set()

    deployment.spool(PARTITIONS).close()
    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    killed = working = 0
    while killed < kills:
        at_work = _live_and_die(deployment, rng)
        killed += 1
        working += at_work
        if killed % 5 == 0:
            print(f"{killed} kills, {len(acknowledged):,} records sent", file=sys.stderr, flush=True)  # noqa: T201
    done.wait()
    subprocess.run(_command(deployment, "--drain"), check=True, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return _reconcile(deployment, acknowledged, poison[0], killed, working, time.monotonic() - began)


def _value(rng: random.Random, number: int, poison_share: float, poison: list[int]) -> bytes:
    value = png(number)
    if rng.random() >= poison_share:
        return value
    poison[0] += 1
    return rng.choice([value[: len(value) // 2], b"", b"not an image", value[:20]])


def _live_and_die(deployment: Deployment, rng: random.Random) -> bool:
    """One life of a worker, ended by SIGKILL; whether it had stored something before it died."""
    before = _stored(deployment)
    process = subprocess.Popen(_command(deployment), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "reading" in line:  # ready: from here on it works through what has piled up
            break
    if rng.random() < 0.8:  # mostly in the middle of work, sometimes before the first commit
        deadline = time.monotonic() + 20
        while _stored(deployment) == before and time.monotonic() < deadline:
            time.sleep(0.02)
    time.sleep(rng.random() * 0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return _stored(deployment) > before


def _command(deployment: Deployment, *more: str) -> list[str]:
    command = [sys.executable, "-m", "pipeline", "worker", "--source", deployment.source]
    return [*command, "--database", deployment.database, "--model", str(deployment.model), "--max-batch", "8", *more]


def _stored(deployment: Deployment) -> int:
    engine = create_engine(deployment.database)
    with engine.connect() as conn:
        count = conn.scalar(text("SELECT coalesce(sum(scored + dead), 0) FROM stream"))
    engine.dispose()
    return int(count or 0)


def _reconcile(
    deployment: Deployment,
    acknowledged: dict[tuple[int, int], str],
    poison: int,
    kills: int,
    working: int,
    seconds: float,
) -> Outcome:
    empty = hashlib.sha256(b"").hexdigest()
    engine = create_engine(deployment.database)
    query = "SELECT s.partition, r.offset, hex(r.value_sha256) FROM {} r JOIN stream s ON s.id = r.stream_id"
    with engine.connect() as conn:
        rows = [
            ((row[0], row[1]), row[2].lower() or empty)
            for table in ("score", "dead_letter")
            for row in conn.execute(text(query.format(table)))
        ]
        scored = conn.scalar(text("SELECT count(*) FROM score"))
        dead = conn.scalar(text("SELECT count(*) FROM dead_letter"))
        accounts = conn.execute(
            text("SELECT log_end - start_offset, scored + dead + expired + skipped + holes, next_offset FROM stream")
        ).all()
    engine.dispose()
    stored = Counter(rows)
    ends = Counter(number for number, _ in acknowledged)
    return Outcome(
        acknowledged=len(acknowledged),
        poison=poison,
        kills=kills,
        kills_while_working=working,
        scored=int(scored or 0),
        dead=int(dead or 0),
        lost=len(set(acknowledged.items()) - set(stored)),
        duplicated=sum(count - 1 for count in Counter(place for place, _ in rows).values()),
        alien=len(set(stored) - set(acknowledged.items())),
        ledger_exact=all(produced == accounted for produced, accounted, _ in accounts)
        and sorted(end for _, _, end in accounts) == sorted(ends.values()),
        seconds=round(seconds, 1),
    )


def main() -> int:
    """Run a storm; exit 1 where anything was lost, duplicated or alien."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oodwatch-soak-") as folder:
        outcome = storm(Path(folder), records=arguments.records, kills=arguments.kills, seed=arguments.seed)
    print(json.dumps(asdict(outcome)))  # noqa: T201
    return int(bool(outcome.lost or outcome.duplicated or outcome.alien or not outcome.ledger_exact))


if __name__ == "__main__":
    sys.exit(main())
