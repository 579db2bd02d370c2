"""How a demo ended: what was scored, what was raised, and when."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Connection

from pipeline.alerts.incident import Alert
from pipeline.demo.configured import FACTOR
from pipeline.demo.story import Scene
from pipeline.storage.incidents import all_incidents
from pipeline.storage.streams import ledger


@dataclass(frozen=True, slots=True)
class Raised:
    """An alert of the demo; seconds since the first image."""

    segment: str  # empty: all traffic
    signal: str
    state: str  # the worst that it was
    raised_s: float
    resolved_s: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """How the demo ended."""

    images: int
    dead_letters: int
    alerts: tuple[Raised, ...]
    scenes: tuple[Scene, ...]
    images_per_second: float  # that were sent
    pages: int

    def as_dict(self) -> dict[str, object]:
        """The last line of `oodwatch demo --json`."""
        shown = [{"what": s.what, "camera": s.camera, "start_s": s.start_s, "end_s": s.end_s} for s in self.scenes]
        return {
            "images": self.images,
            "dead_letters": self.dead_letters,
            "alerts": [asdict(alert) for alert in self.alerts],
            "scenes": shown,
            "images_per_second": round(self.images_per_second, 1),
            "pages": self.pages,
        }

    def as_text(self) -> str:
        """The same for a person."""
        lines = [
            f"{self.images:,} images scored exactly once, {self.images_per_second:.0f} a second;"
            f" {self.dead_letters} broken ones became dead letters; {self.pages} pages"
        ]
        for scene in self.scenes:
            lines.append(f"  {scene.start_s:4.0f} s to {scene.end_s:.0f} s  {scene.told}")
            for alert in self.alerts:
                if alert.segment == scene.camera:
                    over = "still open" if alert.resolved_s is None else f"over at {alert.resolved_s:.0f} s"
                    lines.append(f"         {alert.signal}: {alert.state} from {alert.raised_s:.0f} s, {over}")
        return "\n".join(lines)


def summarise(
    conn: Connection, deployment: int, *, began: datetime, scenes: Iterable[Scene], speed: float, pages: int
) -> Summary:
    """What is stored of a story that began then; `speed` in images/s."""
    lines, incidents = ledger(conn), all_incidents(conn, deployment)

    def since(at: datetime) -> float:
        return round((at - began).total_seconds() / FACTOR, 1)

    def raised(alert: Alert) -> Raised:
        over = None if alert.resolved_at is None else since(alert.resolved_at)
        return Raised(alert.segment, alert.signal, alert.peak, since(alert.raised_at), over)

    return Summary(
        images=sum(line.scored for line in lines),
        dead_letters=sum(line.dead for line in lines),
        alerts=tuple(raised(alert) for incident in incidents for alert in incident.alerts),
        scenes=tuple(scenes),
        images_per_second=speed,
        pages=pages,
    )
