"""A steady stream of records into the log, from a thread of its own."""

import threading
import time

from tests.faults.soak.logs import Sender


class Traffic(threading.Thread):
    """Sends the records of the given numbers, `rate` a second; as fast as it goes without one."""

    def __init__(self, sender: Sender, numbers: range, rate: float | None) -> None:
        super().__init__(name="traffic", daemon=True)
        self._sender = sender
        self._numbers = numbers
        self._rate = rate
        self._enough = threading.Event()
        self._failure: BaseException | None = None
        self.sent = 0

    def run(self) -> None:
        began = time.monotonic()
        try:
            for number in self._numbers:
                self._sender.send(number)
                self.sent += 1
                if self._rate is None or self.sent % 10:
                    continue
                if self._enough.wait(max(0.0, began + self.sent / self._rate - time.monotonic())):
                    break
            self._sender.finish()
        except BaseException as failure:
            self._failure = failure

    def flows(self) -> bool:
        """Whether more is to come. Raises what ended the producer."""
        if self._failure is not None:
            raise self._failure
        return self.is_alive()

    def stop(self) -> None:
        """End early; what was sent is acknowledged."""
        self._enough.set()
        self.wait()

    def wait(self) -> None:
        """Until all is sent and acknowledged."""
        self.join()
        self.flows()
