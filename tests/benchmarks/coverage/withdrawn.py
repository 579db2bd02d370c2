"""Real features through the pipeline: a class is withdrawn, street numbers are mixed in, nothing happens.

A ResNet-20 at 300 images a window, four a minute from two cameras. Half of the pack's in-distribution images
calibrate, the other half is the traffic; every window draws from it anew, without replacement.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.assembly.coverage_rows import Window
from pipeline.assembly.covering import CoverageRequest, Stored, run_coverage
from pipeline.assembly.monitoring import run_monitor
from pipeline.assembly.replaying import Question, Replay
from pipeline.assembly.working import run_worker
from pipeline.cli.output import iso
from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Spool
from pipeline.records import ENERGY, utc_now
from pipeline.reports.coverage_page import coverage_page
from pipeline.settings import Settings, SourceSettings, load_settings
from pipeline.stages.coverage_report import COVERAGE_LOST, NOVEL, CoverageReport, Plan
from pipeline.storage.engine import open_database
from tests.benchmarks.coverage.check import Check, at_least
from tests.incident.pack import prepare
from tests.shared_data import cifar

WINDOW, PER_MINUTE = 300, 4
LENGTH = timedelta(minutes=WINDOW // PER_MINUTE)
STRIDE = LENGTH + timedelta(minutes=15)
NOVEL_SHARE = 0.3
CLEAN, OF_CLASS, MIXED = 100, 3, 10
CAMERAS = ("cam-1", "cam-2")


@dataclass(frozen=True)
class Played:
    """One window: what was in it and what is said of it."""

    kind: str  # clean, svhn, or the class that is withdrawn
    report: CoverageReport
    flagged: float
    loudest: str  # highest state of the OOD fraction of all traffic


def withdrawn(
    home: Path,
    *,
    clean: int = CLEAN,
    of_class: int = OF_CLASS,
    mixed: int = MIXED,
    classes: Sequence[str] = (),
    pages: Path | None = None,
) -> Iterator[Check]:
    """Play all windows in one log, then ask `coverage` of each. Without `classes` every class is withdrawn."""
    pack = cifar()
    made = prepare(pack, home, [ENERGY])
    by_class = _traffic(pack)
    kinds = ["clean"] * clean + ["svhn"] * mixed
    kinds += [name for name in classes or by_class for _ in range(of_class)]
    settings = load_settings(
        database=f"sqlite:///{home / 'energy.db'}",
        source=SourceSettings(url=f"spool:{home / 'spool'}/images"),
        model=made.model,
    )
    start = (utc_now() - STRIDE * (len(kinds) + 1)).replace(second=0, microsecond=0)
    starts = [start + STRIDE * at for at in range(len(kinds))]
    _produce(home / "spool", kinds, starts, by_class, made.pools["svhn"])
    run_worker(settings, start_at="earliest", drain=True, stop=threading.Event())
    run_monitor(settings, once=True, now=starts[-1] + STRIDE, stop=threading.Event())
    played = [_ask(settings, kind, at, pages) for kind, at in zip(kinds, starts, strict=True)]
    yield from _checks(played, list(by_class))


def _traffic(pack: Path) -> dict[str, list[bytes]]:
    files = sorted((pack / "id").glob("*/*.jpg"))
    odd = [file for file in files if int(file.stem) % 2 == 1]  # the even ones calibrate, see tests.incident.pack
    return {
        name: [file.read_bytes() for file in odd if file.parent.name == name]
        for name in sorted({file.parent.name for file in odd})
    }


def _produce(
    spool: Path,
    kinds: Sequence[str],
    starts: Sequence[datetime],
    by_class: Mapping[str, Sequence[bytes]],
    numbers: Sequence[bytes],
) -> None:
    rng = np.random.default_rng(0)
    log = Spool(spool, "images", partitions=1)
    for kind, start in zip(kinds, starts, strict=True):
        pool = [picture for name, pictures in by_class.items() if name != kind for picture in pictures]
        n_novel = round(NOVEL_SHARE * WINDOW) if kind == "svhn" else 0
        normal = [pool[i] for i in rng.permutation(len(pool))[: WINDOW - n_novel]]
        novel = [numbers[i] for i in rng.permutation(len(numbers))[:n_novel]]
        cameras = [CAMERAS[i] for i in rng.integers(0, 2, len(normal))] + [CAMERAS[1]] * n_novel
        pictures = list(zip([*normal, *novel], cameras, strict=True))
        order = rng.permutation(WINDOW)
        log.append(
            [
                NewRecord(
                    pictures[at][0],
                    headers=(
                        ("ce_time", iso(start + place * LENGTH / WINDOW).encode()),
                        ("segment", pictures[at][1].encode()),
                        ("id", f"{kind}-{'svhn' if at >= len(normal) else 'id'}-{place}".encode()),
                    ),
                )
                for place, at in enumerate(order)
            ]
        )
    log.close()


def _ask(settings: Settings, kind: str, start: datetime, pages: Path | None) -> Played:
    request = CoverageRequest(Stored(None), Window(start, start + LENGTH), Plan(), None)
    report, _ = run_coverage(settings, request, rng=np.random.default_rng(0))
    if pages is not None:
        (pages / f"{kind}.html").write_text(coverage_page(report), encoding="utf-8")
    images = sum(line.images for line in report.traffic)
    flagged = sum(line.flagged * line.images for line in report.traffic) / images
    engine = open_database(settings.database_url)
    replay = Replay(engine, settings, Question(start, start + LENGTH))
    order = ("no_data", "learning", "ok", "shift", "warning", "critical")
    states = [verdict.state for _, said in replay.verdicts() for verdict in said if verdict.stream == "pooled"]
    engine.dispose()
    return Played(kind, report, flagged, max(states, key=order.index))


def _checks(played: Sequence[Played], classes: Sequence[str]) -> Iterator[Check]:
    clean = [one for one in played if one.kind == "clean"]
    loud = [one for one in clean if one.report.findings]
    yield Check(f"clean windows with a finding, of {len(clean)}", f"{len(loud)}; {_z(clean)}", "0", not loud)
    out = [one for one in played if one.kind in classes]
    for name in classes:
        of_class = [one for one in out if one.kind == name]
        if of_class:
            named = [one for one in of_class if _lost(one) == [name]]
            found = f"{len(named)} of {len(of_class)} windows; {_own_pictures(of_class):.0%} of pictures"
            yield Check(f"{name} withdrawn: it alone named as no longer covered", found)
    if out:
        named = [one for one in out if _lost(one) == [one.kind]]
        share = len(named) / len(out)
        yield at_least(
            "a class withdrawn: it alone named as no longer covered", share, 0.7, f"{share:.0%} of {len(out)}"
        )
        pictures = _own_pictures(named)
        yield at_least("    then, share of the pictures that are its own", pictures, 0.5, f"{pictures:.0%}")
        silent = [one for one in out if one.loudest == "ok"]
        flagged = float(np.mean([one.flagged for one in out]))
        usual = float(np.mean([one.flagged for one in clean])) if clean else float("nan")
        yield Check(
            "    OOD fraction stays ok (share of flagged images; in clean windows)",
            f"{len(silent)} of {len(out)} ({flagged:.1%}; {usual:.1%})", f"{len(out)}", len(silent) == len(out),
        )  # fmt: skip
    mixed = [one for one in played if one.kind == "svhn"]
    if mixed:
        novel = sum(NOVEL in _codes(one) for one in mixed) / len(mixed)
        yield at_least(
            f"svhn, {NOVEL_SHARE:.0%} of all images: named as novel", novel, 0.9, f"{novel:.0%}; {_z(mixed)}"
        )
        last = [one.report.segments[0].segment == CAMERAS[1] for one in mixed]
        yield at_least("    its camera is the least supported segment", float(np.mean(last)), 1, f"{np.mean(last):.0%}")
        lost = sum(bool(_lost(one)) for one in mixed)
        yield Check("    windows in which a class is named as lost", f"{lost} of {len(mixed)}")


def _z(played: Sequence[Played]) -> str:
    lines = [one.report.compared for one in played if one.report.compared is not None]
    means = np.mean([(line.p_precision.z, line.p_recall_in_support.z) for line in lines], axis=0)
    return f"mean z of P {means[0]:+.1f}, of R in support {means[1]:+.1f}"


def _codes(one: Played) -> list[str]:
    return [finding.code for finding in one.report.findings]


def _lost(one: Played) -> list[str]:
    return [line.group for line in one.report.groups if line.is_lost] if COVERAGE_LOST in _codes(one) else []


def _own_pictures(played: Sequence[Played]) -> float:
    """Of the least covered images, those of the class that is withdrawn."""
    shares: list[Any] = [[image.group == one.kind for image in one.report.least_covered] for one in played]
    return float(np.mean([np.mean(share) for share in shares])) if shares else 0.0
