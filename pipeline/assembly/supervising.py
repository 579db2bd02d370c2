"""Several roles as processes of one command: one ends, all end; the command ends, they do."""

import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pipeline.errors import EnvironmentFault, OodwatchError

_GRACE_S = 25.0  # a worker ends in order within 20 s

#: Who hears the lines that processes print: the role's name, and a line of its output.
Hear = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Role:
    """A process: what it is called here, and the words after `oodwatch`."""

    name: str
    words: Sequence[str]


class RoleEnded(OodwatchError):
    """A process ended though nobody had told it to; the exit code is its own, where that says something."""

    def __init__(self, role: str, code: int, said: str) -> None:
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        super().__init__(f"{role} {how}, so all others were ended: {said or 'it said nothing'}")
        self.exit_code = code if code > 0 else EnvironmentFault.exit_code


class Supervisor:
    """Starts roles and passes on what they print. Leaving it ends them: in order, after 25 s by force.

    They are sessions of their own, so that Ctrl-C reaches them once: from here. Where this process is killed, they
    end by themselves.
    """

    def __init__(self, environment: Mapping[str, str], hear: Hear) -> None:
        self._environment = environment
        self._hear = hear
        self._running: dict[str, subprocess.Popen[str]] = {}
        self._readers: list[threading.Thread] = []
        self._last: dict[str, str] = {}  # line by role

    def __enter__(self) -> Self:
        """Nothing runs yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all."""
        self.end()

    def start(self, role: Role) -> None:
        """Start one more."""
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.attended", *role.words],
            env={**self._environment, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.PIPE,  # held and never written to: it ends with this process
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        self._running[role.name] = process
        reader = threading.Thread(target=self._read, args=(role.name, process), name=role.name, daemon=True)
        reader.start()
        self._readers.append(reader)

    def check(self) -> None:
        """Raises RoleEnded where a process has ended."""
        for name, process in self._running.items():
            code = process.poll()
            if code is not None:
                self._readers[list(self._running).index(name)].join(1)
                raise RoleEnded(name, code, self._last.get(name, ""))

    def end(self) -> None:
        """End all that run, and wait for them."""
        alive = [process for process in self._running.values() if process.poll() is None]
        for process in alive:
            process.terminate()
        for process in alive:
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for process in self._running.values():
            if process.stdin is not None:
                process.stdin.close()
        for reader in self._readers:
            reader.join(1)
        self._running.clear()
        self._readers.clear()

    def _read(self, name: str, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if text := line.rstrip():
                    self._last[name] = text
                    self._hear(name, text)


def run_together(roles: Sequence[Role], environment: Mapping[str, str], hear: Hear, stop: threading.Event) -> None:
    """Run roles until told to stop. Raises RoleEnded where one ends by itself."""
    with Supervisor(environment, hear) as supervisor:
        for role in roles:
            supervisor.start(role)
        while not stop.wait(0.2):
            supervisor.check()
