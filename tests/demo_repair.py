"""The demo's digit reader is repaired by the commands of the README, from the first to the last.

    python -m tests.demo_repair --json

It is shown what it was blind to: pieces of pictures that are neither digits nor cats. What it is judged by are cats,
and digits as a camera sees them that lies on its side. Exit 1 where a command fails.
"""

import argparse
import json
import os
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: As the README has them; OODWATCH_DATABASE is sqlite:///demo/demo.db.
COMMANDS = """\
oodwatch demo --headless --keep demo
oodwatch finetune --model demo/digits --id demo/train --outliers demo/others --calibration demo/calibrate \
--ood cats=demo/cats --ood lying=demo/lying --augment none --steps 300 --lr 0.005 --out demo/digits-b
oodwatch models register demo/digits-b
oodwatch models compare digits-b --model demo/digits --images demo/digits-seen
oodwatch models promote digits-b --reason "sees cats and lying digits"
oodwatch produce demo/cats --source spool:demo/spool/images
oodwatch worker --source spool:demo/spool/images --model demo/digits --drain
oodwatch models rollback --reason "the end of the exercise"
"""
_JSON = ("demo", "finetune", "models", "worker")  # produce has none to tell


@dataclass(frozen=True)
class Ran:
    """One command that has ended well."""

    words: tuple[str, ...]
    answer: dict[str, Any]  # its last JSON line
    wall_s: float
    cpu_s: float

    @property
    def name(self) -> str:
        """As `models promote`."""
        return " ".join(self.words[: 2 if self.words[0] == "models" else 1])


def run(home: Path, *, seconds: int, steps: int) -> Iterator[Ran]:
    """Run the commands in a folder. Raises CalledProcessError where one fails."""
    environment = {
        **os.environ,  # noqa: TID251 the child inherits it
        "OODWATCH_DATABASE": "sqlite:///demo/demo.db",
        "OODWATCH_STATE_DIR": str(home / "state"),
        "OODWATCH_HTTP__LISTEN": "off",
        "OODWATCH_LOG__FORMAT": "text",
        "COLUMNS": "200",
    }
    for line in COMMANDS.splitlines():
        words = shlex.split(line.replace("--steps 300", f"--steps {steps}"))[1:]
        more = ["--seconds", str(seconds)] if words[0] == "demo" else []
        more += ["--json"] if words[0] in _JSON else []
        began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words, *more],
            cwd=home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, words, done.stdout, done.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        answer = json.loads(done.stdout.splitlines()[-1]) if words[0] in _JSON else {}
        yield Ran(tuple(words), answer, round(time.monotonic() - began, 1), round(cpu_s, 1))


def told(ran: list[Ran]) -> dict[str, object]:
    """What came of it, in figures."""
    answers = {one.name: one.answer for one in ran}
    tuned, compared, drained = answers["finetune"], answers["models compare"], answers["worker"]
    sets = {
        name: {
            "fpr95_before": round(tuned["before"]["sets"][name]["fpr95"], 4),
            "fpr95_after": round(figures["fpr95"], 4),
            "interval_after": [round(figures["low"], 4), round(figures["high"], 4)],
        }
        for name, figures in tuned["after"]["sets"].items()
    }
    return {
        "sets": sets,
        "accuracy": [tuned["before"]["accuracy"], tuned["after"]["accuracy"]],
        "go": compared["go"],
        "normal_flagged": [round(compared[side]["flagged"], 4) for side in ("old", "new")],
        "normal_flagged_by_old_threshold": round(compared["flagged_by_old_threshold"], 4),
        "cats_flagged_after_promotion": f"{drained['flagged']} of {drained['scored']}",
        "back_to": answers["models rollback"]["model"],
        "wall_s": {one.name: one.wall_s for one in ran},
        "cpu_s": {one.name: one.cpu_s for one in ran},
        "repair_cpu_s": round(sum(one.cpu_s for one in ran[1:]), 1),
    }


def main() -> int:
    """Run all, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.demo_repair", description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of the demo's stream")
    parser.add_argument("--steps", type=int, default=300, help="of the fine-tuning")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="oodwatch-repair-") as folder:
        try:
            figures = told(list(run(Path(folder), seconds=arguments.seconds, steps=arguments.steps)))
        except subprocess.CalledProcessError as failed:
            print(f"{shlex.join(failed.cmd)} ended with {failed.returncode}: {failed.stderr}", file=sys.stderr)  # noqa: T201
            return 1
    text = json.dumps(figures) if arguments.json else "\n".join(f"{name}: {value}" for name, value in figures.items())
    print(text)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
