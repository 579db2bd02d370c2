"""The demo's live table in the terminal."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

_RECENT_S = 5.0
_BAR = 24


class Counts(Protocol):
    """What the table shows: totals, and (time, images, flagged) of late batches, per camera."""

    images: dict[str, int]
    flagged: dict[str, int]
    recent: dict[str, list[tuple[float, int, int]]]
    dead: int


class Screen:
    """Draws until told that it is over; draws nothing when not live."""

    def __init__(self, counts: Counts, cameras: Sequence[str], *, live: bool) -> None:
        self._counts = counts
        self._cameras = cameras
        self._live = live

    def draw_until(self, over: Callable[[], bool]) -> None:
        """Four times a second."""
        if not self._live:
            while not over():
                time.sleep(0.1)
            return
        with Live(self._table(), console=Console(stderr=True), refresh_per_second=4) as live:
            while not over():
                time.sleep(0.25)
                live.update(self._table())

    def _table(self) -> Table:
        table = Table(title="the last 5 seconds", title_justify="left", caption_justify="left", box=None)
        table.add_column("camera")
        table.add_column("images/s", justify="right")
        table.add_column("unusual", justify="right")
        table.add_column("share of unusual images", min_width=32)
        since = time.monotonic() - _RECENT_S
        for camera in self._cameras:
            late = [(n, k) for at, n, k in self._counts.recent[camera] if at >= since]
            n, k = sum(n for n, _ in late), sum(k for _, k in late)
            share = k / n if n else 0.0
            bar = Text(
                "█" * round(share * _BAR),
                style="red" if share > 0.25 else "yellow" if share > 0.1 else "green",
            )
            table.add_row(camera, f"{n / _RECENT_S:.0f}", f"{share:.0%}" if n else "no images", bar)
        total = sum(self._counts.images.values())
        table.caption = f"{total:,} images scored, {self._counts.dead} dead letters (broken images)"
        return table
