"""One worker process: the command itself, forked from a process that has imported it already.

An import of torch costs 3 s of CPU; a storm of forty kills would be mostly that. Everything after the
imports is as in `oodwatch worker`: settings, model, database, group, threads, signals.
"""

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import kafka
import psycopg

import pipeline.assembly.working
import pipeline.cli.app
import pipeline.models.classifier
import pipeline.stages.inference
from tests.faults.soak import kill_points
from tests.faults.soak.mutants import MUTANTS
from tests.faults.soak.wrapping import wrap

_LOADED = (kafka, psycopg, pipeline.assembly.working, pipeline.models.classifier)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Alterations:
    """What is different from the command as installed."""

    hook: kill_points.Hook | None = None
    mutant: str | None = None
    own_group: str | None = None  # a group of its own: it is given all partitions, and is a zombie for ever
    batches: Path | None = None  # begin, end and model of each batch are noted there


def run(arguments: list[str], environment: Mapping[str, str], output: Path, alterations: Alterations) -> None:
    """Become `oodwatch` with these arguments. The parent's death kills it, frozen or not."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()  # Ctrl-C at the terminal is for the harness
    with output.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ.update(environment)  # noqa: TID251 the child's own
    if alterations.mutant is not None:
        MUTANTS[alterations.mutant].install()
    if alterations.own_group is not None:
        _use_group(alterations.own_group)
    if alterations.batches is not None:
        _note_batches(alterations.batches)
    if alterations.hook is not None:
        kill_points.install(alterations.hook)
    sys.argv = ["oodwatch", *arguments]
    pipeline.cli.app.main()


def _use_group(name: str) -> None:
    def around(open_source, *arguments, **named):  # type: ignore[no-untyped-def]
        return open_source(*arguments, **{**named, "group": name})

    wrap(pipeline.assembly.working, "open_source", around)


def _note_batches(file: Path) -> None:
    """Monotonic seconds, which all processes of a machine have in common."""
    notes = file.open("a", buffering=1)

    def around(score, inference, ranges, prepared):  # type: ignore[no-untyped-def]
        began = time.monotonic()
        batch = score(inference, ranges, prepared)
        note = {"model": batch.reference.model_id, "images": len(batch.images), "began": began}
        notes.write(json.dumps(note | {"ended": time.monotonic()}) + "\n")
        return batch

    wrap(pipeline.stages.inference.Inference, "score_ranges", around)
