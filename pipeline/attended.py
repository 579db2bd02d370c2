"""`python -m pipeline.attended ...`: the same command, which ends in order when whoever started it is gone, however.

Its standard input is a pipe whose other end its starter holds: it ends with the starter, kill -9 included.
"""

import os
import signal
import threading

from pipeline.__main__ import main


def attend() -> None:
    """Wait for the end of the pipe, then ask this process to end as SIGTERM does."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=attend, name="attend", daemon=True).start()
    main()
