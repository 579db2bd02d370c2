"""Server processes that never outlive the test run, however it ends."""

import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

# Linux kills the child when the *thread* that started it ends: so one thread starts them all.
_LAUNCHER = ThreadPoolExecutor(1, thread_name_prefix="launcher")
_TIED_TO_PARENT = """
import ctypes, os, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    os._exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""


def spawn(command: Sequence[str], *, output: Path, user: str | int | None = None) -> "subprocess.Popen[bytes]":
    """Start a server; its output is appended to a file. It is killed when this process ends."""
    tied = [sys.executable, "-I", "-S", "-c", _TIED_TO_PARENT, str(os.getpid()), *command]

    def launch() -> "subprocess.Popen[bytes]":
        with output.open("ab") as log:
            return subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=user)

    return _LAUNCHER.submit(launch).result()


@contextmanager
def listening(words: Sequence[str], environment: Mapping[str, str]) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`oodwatch` with these words as a process, and its URL; killed where the test has not ended it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *words, "--http", "127.0.0.1:0"],
        env={**os.environ, **environment},  # noqa: TID251 the child inherits it
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        found = (re.search(r"health and metrics at (http://[0-9.:]+)", line) for line in process.stderr)
        url = next((match[1] for match in found if match), None)
        assert url is not None, f"oodwatch {words[0]} has ended before it listened"
        yield process, url
    finally:
        process.kill()
        process.communicate()


def free_port() -> int:
    """A port that nobody listens on, below those that the system hands out to clients by itself.

    A client that knocks at a port of the system's own range can be connected to itself while its server
    is down.
    """
    chooser = random.SystemRandom()
    while True:
        port = chooser.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(condition: Callable[[], bool], what: str = "what was waited for", *, deadline_s: float = 60.0) -> None:
    """Look every 20 ms until it holds; AssertionError that says what never came."""
    give_up = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {deadline_s:.0f} s"
        time.sleep(0.02)
