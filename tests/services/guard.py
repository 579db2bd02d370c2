"""Run as a process: when standard input ends, because the parent is gone, kill a server and remove its folder.

    python tests/services/guard.py PIDFILE FOLDER

A pipe closes however the parent dies, and from whichever thread it was opened; a signal on the
parent's death depends on both, and leaves frozen processes behind.
"""

import contextlib
import shutil
import sys
import time
from pathlib import Path

import psutil


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all its descendants, also frozen ones; return when they hold nothing any more."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        root.suspend()  # so that it starts no more children
        for process in (*root.children(recursive=True), root):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
                while process.status() != psutil.STATUS_ZOMBIE:  # until its parent, maybe init, asks for its end
                    time.sleep(0.01)


def main() -> None:
    """Wait for the end of standard input, then clean up."""
    pid_file, folder = map(Path, sys.argv[1:3])
    sys.stdin.read()
    with contextlib.suppress(OSError, ValueError):
        kill_tree(int(pid_file.read_text().split()[0]))
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
