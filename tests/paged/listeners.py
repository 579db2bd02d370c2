"""Whoever is told: servers for every kind of channel, which can all be away at once, and what they have heard."""

import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.notified import Receiver, Request, receiving
from tests.services.alertmanager import Alertmanager, running_alertmanager

#: Channels by name; these two carry a key by which a receiver knows what it has heard before.
KEYED = ("hook", "pager")
CHANNELS = (*KEYED, "am", "chat", "log")
_TIMEOUT_S = 5


@dataclass
class Listeners:
    """The receivers of one run."""

    home: Path
    servers: Mapping[str, Receiver]  # by channel; stdout is heard in the monitors' own files
    sent_on: Receiver  # what Alertmanager tells in its turn
    alertmanager: Alertmanager | None  # None: a listening server stands in its place
    away: threading.Event = field(default_factory=threading.Event)  # while set, nobody answers

    def settings(self) -> dict[str, Any]:
        """The monitor's."""
        kinds = {"hook": "webhook", "pager": "pagerduty", "am": "alertmanager", "chat": "apprise"}
        tables = [
            {"name": name, "kind": kind, "url": self.servers[name].url, "min_state": "shift"}
            for name, kind in kinds.items()
        ]
        tables[0] |= {"events": "all"}
        tables[1] |= {"secret_file": str(self._key())}
        tables[3] |= {"url": self.servers["chat"].url.replace("http:", "json:")}
        tables.append({"name": "log", "kind": "stdout", "min_state": "shift"})
        return {"channels": [{**table, "timeout_seconds": _TIMEOUT_S} for table in tables]}

    def bodies(self, channel: str) -> list[dict[str, Any]]:
        """What a channel was told, in order, with all repetitions."""
        if channel != "log":
            return [json.loads(request.body) for request in list(self.servers[channel].requests)]
        lives = sorted(self.home.glob("monitor-*.log"), key=lambda file: int(file.stem.rpartition("-")[2]))
        lines = (line for file in lives for line in file.read_text(errors="replace").splitlines())
        return [json.loads(line) for line in lines if line.startswith('{"channel": ')]

    def _key(self) -> Path:
        file = self.home / "routing-key"
        file.write_text("r0uting")
        return file


@contextmanager
def listening(home: Path, *, real_alertmanager: bool) -> Iterator[Listeners]:
    """All of them, until the end of the block."""
    away = threading.Event()
    with ExitStack() as stack:
        sent_on = stack.enter_context(receiving())
        server = stack.enter_context(running_alertmanager(home, sent_on.url)) if real_alertmanager else None

        def answer(request: Request) -> tuple[int, Mapping[str, str], bytes] | None:
            return None if away.is_set() else (202, {}, b"{}")

        def pass_on(request: Request) -> tuple[int, Mapping[str, str], bytes] | None:
            if away.is_set() or server is None:
                return answer(request)
            headers = {"content-type": "application/json"}
            answered = httpx.post(server.url + request.path, content=request.body, headers=headers, timeout=30)
            return answered.status_code, {}, answered.content

        servers = {name: stack.enter_context(receiving(pass_on if name == "am" else answer)) for name in CHANNELS[:-1]}
        yield Listeners(home, _Heard(servers, away), sent_on, server, away)


class _Heard(dict[str, Receiver]):
    """Receivers that count as heard only what they answered."""

    def __init__(self, servers: Mapping[str, Receiver], away: threading.Event) -> None:
        super().__init__(servers)
        for receiver in servers.values():
            receiver.requests = _Answered(away)


class _Answered(list[Request]):
    def __init__(self, away: threading.Event) -> None:
        super().__init__()
        self._away = away
        self.refused = 0

    def append(self, request: Request) -> None:
        if self._away.is_set():
            self.refused += 1
        else:
            super().append(request)


@dataclass(frozen=True)
class Heard:
    """What a channel came to know, and how often it was told anything."""

    told: Sequence[tuple[Any, ...]]  # by key, in the order in which each was heard first
    count: int
    contradictions: int  # said again under a key, with another meaning


def heard(listeners: Listeners, channel: str) -> Heard:
    """By the key that a receiver of this kind has; where it has none, by what was said."""
    if channel == "hook":
        keys = listeners.servers["hook"].keys
    elif channel == "pager":
        keys = [f"{body['dedup_key']} {body['event_action']}" for body in listeners.bodies("pager")]
    else:
        keys = [_said(channel, body) for body in listeners.bodies(channel)]
    said: dict[str, tuple[Any, ...]] = {}
    contradictions = 0
    for key, body in zip(keys, listeners.bodies(channel), strict=True):
        meaning = _meaning(channel, body)
        contradictions += channel == "hook" and said.get(key, meaning) != meaning
        said.setdefault(key, meaning)
    return Heard(list(said.values()), len(keys), contradictions)


def pages(listeners: Listeners) -> Counter[str]:
    """How often a PagerDuty that follows its documents would have opened an incident, by its key."""
    opened: Counter[str] = Counter()
    standing: set[str] = set()
    for body in listeners.bodies("pager"):
        key = body["dedup_key"]
        if body["event_action"] == "resolve":
            standing.discard(key)
        elif body["event_action"] == "trigger" and key not in standing:
            standing.add(key)
            opened[key] += 1
    assert not standing, f"left open: {standing}"
    return opened


def _said(channel: str, body: Any) -> str:
    if channel == "log":
        return str(body["transition"])
    if channel == "am":  # POSTs of what stands: who is told again hears nothing new
        return json.dumps([[alert["labels"], "endsAt" in alert] for alert in body])
    return f"{body['title']}\n{body['message']}"


def _meaning(channel: str, body: Any) -> tuple[Any, ...]:
    if channel in ("hook", "log"):
        alert = body["alert"] or {}
        what = body["incident"], body["kind"], alert.get("signal"), alert.get("segment")
        return *what, body["from"], body["to"], body["action"]
    if channel == "pager":
        return body["dedup_key"], body["event_action"]
    if channel == "chat":  # without the fraction: that of the minutes stored when it was told
        return tuple(body["title"].split(" · ")[:-1])
    return tuple(sorted(alert["labels"]["severity"] for alert in body))
