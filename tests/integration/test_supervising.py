"""Processes of one command: they end with it, and it ends with any of them."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from pipeline.assembly.supervising import Role, RoleEnded, Supervisor, run_together
from pipeline.settings import child_environment

pytestmark = pytest.mark.integration

_CONFIG = """\
database = "sqlite:///{home}/d.db"
deployment = "d"
[http]
listen = "off"
[log]
format = "text"
"""


class Heard:
    """Lines of all roles, and an event once a role has said something that matters."""

    def __init__(self, awaited: str = "watching") -> None:
        self.lines: list[tuple[str, str]] = []
        self.awaited = awaited
        self.came = threading.Event()

    def __call__(self, role: str, line: str) -> None:
        self.lines.append((role, line))
        if self.awaited in line:
            self.came.set()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "oodwatch.toml"
    file.write_text(_CONFIG.format(home=tmp_path))
    return file


def pids(supervisor: Supervisor) -> list[int]:
    return [process.pid for process in supervisor._running.values()]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_roles_end_in_order_when_their_supervisor_is_left(config: Path) -> None:
    heard = Heard()
    with Supervisor(child_environment(config, alone=True), heard) as supervisor:
        supervisor.start(Role("monitor", ("monitor",)))
        assert heard.came.wait(60)
        supervisor.check()
        (pid,) = pids(supervisor)
        assert is_there(pid)
    assert not is_there(pid)
    assert any(line.startswith("folded 0 parts") for _, line in heard.lines)  # its last words: it was not killed


def test_one_role_that_cannot_go_on_ends_all_with_its_reason_and_its_exit_code(config: Path) -> None:
    heard = Heard()
    roles = [Role("monitor", ("monitor",)), Role("worker", ("worker", "--source", "spool:nowhere/images"))]
    with pytest.raises(RoleEnded, match=r"worker ended with exit code 2.*no model is named; add --model") as ended:
        run_together(roles, child_environment(config, alone=True), heard, threading.Event())
    assert ended.value.exit_code == 2


def test_a_role_that_is_killed_is_said_to_have_been(config: Path) -> None:
    heard = Heard()
    with Supervisor(child_environment(config, alone=True), heard) as supervisor:
        supervisor.start(Role("monitor", ("monitor",)))
        assert heard.came.wait(60)
        (pid,) = pids(supervisor)
        os.kill(pid, signal.SIGKILL)
        supervisor._running["monitor"].wait(30)
        with pytest.raises(RoleEnded, match="monitor was killed by signal 9, so all others were ended"):
            supervisor.check()


def test_up_ends_with_code_0_when_it_is_told_to_and_takes_its_roles_along(config: Path, tmp_path: Path) -> None:
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from pipeline.assembly.supervising import Role, run_together\n"
        "from pipeline.cli.run import stop_on_signals\n"
        "from pipeline.settings import child_environment\n"
        "hear = lambda role, line: print(line, flush=True)\n"
        "environment = child_environment(Path(sys.argv[1]), alone=True)\n"
        "run_together([Role('monitor', ('monitor',))], environment, hear, stop_on_signals())\n"
    )
    up = subprocess.Popen([sys.executable, "-c", program, str(config)], stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("watching d")
        up.send_signal(signal.SIGINT)
        rest, _ = up.communicate(timeout=60)
    finally:
        up.kill()
    assert up.returncode == 0
    assert "folded 0 parts" in rest


def test_roles_end_when_their_supervisor_is_killed(config: Path) -> None:
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from pipeline.assembly.supervising import Role, run_together\n"
        "from pipeline.settings import child_environment\n"
        "hear = lambda role, line: print(line, flush=True)\n"
        "environment = child_environment(Path(sys.argv[1]), alone=True)\n"
        "run_together([Role('monitor', ('monitor',))], environment, hear, threading.Event())\n"
    )
    up = subprocess.Popen([sys.executable, "-c", program, str(config)], stdout=subprocess.PIPE, text=True)
    try:
        assert up.stdout is not None
        assert up.stdout.readline().startswith("watching d")
        (monitor,) = psutil.Process(up.pid).children()
    finally:
        up.kill()
        up.communicate()
    assert psutil.wait_procs([monitor], timeout=60) == ([monitor], [])
