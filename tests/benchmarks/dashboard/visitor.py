"""A browser's half of a session without a browser: so that many of them cost the machine nothing of their own."""

import time
from dataclasses import dataclass, field
from typing import Self

from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect

_PATIENCE_S = 60.0
_FRAGMENT = ForwardMsg.ScriptFinishedStatus.FINISHED_FRAGMENT_RUN_SUCCESSFULLY


@dataclass
class Visitor:
    """One open tab."""

    connection: ClientConnection
    live: dict[str, float] = field(default_factory=dict)  # fragments that want to run again, and how often

    @classmethod
    def come(cls, port: int) -> Self:
        """Open a tab that shows nothing yet."""
        url = f"ws://127.0.0.1:{port}/_stcore/stream"
        return cls(connect(url, subprotocols=["streamlit"], max_size=None, open_timeout=_PATIENCE_S))  # type: ignore[list-item]

    def go(self, page: str = "", query: str = "") -> float:
        """Look at a page; seconds until all of it has come. Raises AssertionError where it could not be made."""
        return self._run(ClientState(page_name=page, query_string=query))

    def refresh(self) -> float:
        """What the tab does by itself every few seconds."""
        return sum(self._run(ClientState(fragment_id=one, is_auto_rerun=True)) for one in list(self.live))

    def leave(self) -> None:
        """Close the tab."""
        self.connection.close()

    def _run(self, state: ClientState) -> float:
        began = time.perf_counter()
        self.connection.send(BackMsg(rerun_script=state).SerializeToString())
        while True:
            message = ForwardMsg.FromString(self.connection.recv(_PATIENCE_S, decode=False))
            kind = message.WhichOneof("type")
            if kind == "auto_rerun":
                self.live[message.auto_rerun.fragment_id] = message.auto_rerun.interval
            if kind == "script_finished":
                assert message.script_finished in (0, _FRAGMENT), message.script_finished
                if bool(state.fragment_id) == (message.script_finished == _FRAGMENT):
                    return time.perf_counter() - began
