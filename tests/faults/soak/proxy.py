"""A TCP proxy that is a bad network: slow, silent, or losing the one answer that matters."""

import contextlib
import socket
import struct
import threading
import time

_CHUNK = 65_536
_COMMIT = b"COMMIT\x00"
_COPY = b"COPY "  # only a batch is written so
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Listens on 127.0.0.1 and forwards to one port. All faults can be switched while it runs."""

    def __init__(self, target_port: int) -> None:
        self._target = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = threading.Event()  # cleared: nothing is forwarded, and nobody is told
        self._open.set()
        self._lock = threading.Lock()
        self._commits_to_drop = 0
        self.dropped_commits = 0
        self.latency_s = 0.0
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def drop_commit_replies(self, count: int) -> None:
        """The next batches' COMMITs reach the server; the answers never come back, the connection is reset."""
        with self._lock:
            self._commits_to_drop = count

    def silence(self) -> None:
        """Half-open: connections stay up, nothing passes."""
        self._open.clear()

    def restore(self) -> None:
        """What was silent is reset, as keepalives would do in the end; new connections work."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _reset(*pair)
        self._open.set()

    def close(self) -> None:
        """End all."""
        self._listener.close()
        self.restore()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            fate = _Fate()
            for source, sink, is_question in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pump, args=(source, sink, is_question, fate), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_question: bool, fate: "_Fate") -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                self._open.wait()
                if self.latency_s:
                    time.sleep(self.latency_s)
                if is_question:
                    fate.has_copied |= _COPY in data
                if is_question and _COMMIT in data:
                    fate.is_doomed = fate.has_copied and self._take_doom()
                    fate.has_copied = False
                elif not is_question and fate.is_doomed:  # the server has answered, so it is committed
                    with self._lock:
                        self.dropped_commits += 1
                    break
                sink.sendall(data)
        _reset(source, sink)

    def _take_doom(self) -> bool:
        with self._lock:
            doomed = self._commits_to_drop > 0
            self._commits_to_drop -= doomed
            return doomed


class _Fate:
    """What one connection's two directions share."""

    has_copied = False
    is_doomed = False


def _reset(*connections: socket.socket) -> None:
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()
