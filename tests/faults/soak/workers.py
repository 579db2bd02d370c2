"""Real worker processes: started, watched, frozen, thawed, ended and killed."""

import contextlib
import json
import multiprocessing
import os
import random
import re
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.soak import launch
from tests.faults.soak.kill_points import POINTS, Hook, Point
from tests.faults.soak.launch import Alterations
from tests.faults.soak.monitor_points import MonitorPoint
from tests.services.processes import wait_until

_SPAWNER = multiprocessing.get_context("forkserver")
_SPAWNER.set_forkserver_preload([launch.__name__])


class Member:
    """One life of one worker."""

    def __init__(self, slot: str, process: multiprocessing.process.BaseProcess, output: Path, hook: Hook | None):
        self.slot = slot
        self.output = output
        self.hook = hook
        self.frozen = False
        self.ended_by_us = False
        self._process = process

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def exit_code(self) -> int | None:
        return self._process.exitcode

    @property
    def is_reading(self) -> bool:
        """Whether it has loaded its model and reads the log."""
        return b" reading " in self.output.read_bytes() if self.output.exists() else False

    @property
    def scoring(self) -> str | None:
        """The id of the model that it said last that it scores by."""
        said = self.output.read_text(errors="replace") if self.output.exists() else ""
        found: list[str] = re.findall(r"(\S+@[0-9a-f]{12}) on \w+, reference ", said)
        return found[-1] if found else None

    def wait_until_reading(self) -> None:
        """AssertionError with its last words where it dies instead."""

        def reading() -> bool:
            return self.is_reading or not self.is_alive

        wait_until(reading, f"{self.slot} reading")

    def kill(self) -> None:
        """kill -9."""
        self.ended_by_us = True
        self._send(signal.SIGKILL)
        self._process.join()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._send(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self._send(signal.SIGCONT)
        self.frozen = False

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self.ended_by_us = True
        self._send(signal.SIGTERM)

    def wait(self, deadline_s: float = 60.0) -> int:
        """Until it has ended; its exit code."""
        self._process.join(deadline_s)
        assert self._process.exitcode is not None, f"{self.slot} did not end within {deadline_s:.0f} s"
        return self._process.exitcode

    def fenced(self) -> int:
        """Ranges that it did not store because the cursor had moved, as it said at an orderly end; else 0."""
        for line in reversed(self.output.read_text(errors="replace").splitlines()):
            with contextlib.suppress(ValueError, KeyError):
                return int(json.loads(line)["fenced"])
        return 0

    def last_words(self) -> str:
        """The last lines that it printed."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-5:])

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@dataclass
class Fleet:
    """The workers of one run, each in a slot that is filled again when its worker has died."""

    arguments: list[str]
    home: Path
    config: Mapping[str, Mapping[str, object] | Sequence[Mapping[str, object]]]  # section -> settings, or several
    static: bool
    rng: random.Random
    points: tuple[Point | MonitorPoint, ...] = POINTS
    passages: tuple[int, int] = (2, 40)  # how often an armed one may pass its point
    mutant: str | None = None
    note_batches: bool = False  # each life beside its output, as <slot>-<number>.batches
    members: dict[str, Member] = field(default_factory=dict)
    kills: int = 0
    kills_at: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)  # workers that ended by themselves, with their last words
    started: int = 0
    fenced: int = 0  # ranges, as told by those that ended in order

    def start(self, slot: str, *, hook: Hook | None = None, own_group: str | None = None) -> Member:
        """Begin a life in a slot."""
        self.started += 1
        output = self.home / f"{slot}-{self.started}.log"
        process = _SPAWNER.Process(
            target=launch.run,
            args=(
                self.arguments,
                {"OODWATCH_CONFIG": str(self._write_config(slot)), "OODWATCH_STATE_DIR": str(self.home / "state")},
                output,
                Alterations(
                    hook, self.mutant, own_group, output.with_suffix(".batches") if self.note_batches else None
                ),
            ),
            name=slot,
        )
        process.start()
        self.members[slot] = Member(slot, process, output, hook)
        return self.members[slot]

    def start_many(self, count: int) -> None:
        """Start in slots of their own and wait until all read."""
        for i in range(count):
            self.start(f"worker-{i + 1}")
        for member in list(self.members.values()):
            member.wait_until_reading()

    def armed(self) -> Hook:
        """A random death by its own hand."""
        return Hook(self.rng.choice(self.points), self.rng.randrange(*self.passages))

    def refill(self, *, armed_share: float = 0.0) -> None:
        """Start anew where a worker has died; a share of them with a hook."""
        for slot, member in list(self.members.items()):
            if not member.is_alive:
                self.bury(member)
                self.start(slot, hook=self.armed() if self.rng.random() < armed_share else None)

    def bury(self, member: Member) -> None:
        """Count how it died."""
        if member.hook is not None and member.exit_code == -signal.SIGKILL and not member.ended_by_us:
            self.kills += 1
            self.kills_at[member.hook.point] += 1
        elif not member.ended_by_us:
            self.failures.append(f"{member.slot} ended with {member.exit_code}: {member.last_words()}")
        self.members.pop(member.slot, None)

    def kill(self, member: Member) -> None:
        """kill -9 at this moment."""
        if member.is_alive:
            member.kill()
            self.kills += 1
            self.kills_at["any moment"] += 1

    def alive(self) -> list[Member]:
        """Those that run, frozen or not."""
        return [member for member in self.members.values() if member.is_alive]

    def thaw(self) -> None:
        """Whoever is frozen goes on, also one that froze itself."""
        for member in self.alive():
            member.thaw()

    def stop(self) -> None:
        """End all in order; a failure to end is recorded."""
        members = self.alive()
        for member in members:
            member.terminate()
        for member in members:
            try:
                code = member.wait()
            except AssertionError as late:
                self.failures.append(f"{late}: {member.last_words()}")
                member.kill()
            else:
                if code != 0:
                    self.failures.append(f"{member.slot} ended with {code} on SIGTERM: {member.last_words()}")
                self.fenced += member.fenced()

    def abandon(self) -> None:
        """kill -9 of whatever still runs; nothing is counted."""
        for member in self.members.values():
            member.kill()

    def _write_config(self, slot: str) -> Path:
        lines: list[str] = []
        for section, given in self.config.items():
            head, tables = (f"[{section}]", [given]) if isinstance(given, Mapping) else (f"[[{section}]]", given)
            for values in tables:
                lines += [head, *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
            if self.static and section == "source.kafka":
                lines.append(f"group_instance_id = {json.dumps(slot)}")
        file = self.home / f"{slot}.toml"
        file.write_text("\n".join([*lines, ""]))
        return file
