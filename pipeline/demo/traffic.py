"""The records that the demo's cameras send."""

from collections.abc import Callable, Iterator
from datetime import datetime

import numpy as np

from pipeline.demo.pictures import Pictures
from pipeline.demo.story import CAMERAS, Scene, on_stage
from pipeline.ingest.source import NewRecord

BROKEN_EVERY = 251  # a truncated image now and then: dead letters are part of the picture


def traffic(
    pictures: Pictures,
    scenes: tuple[Scene, ...],
    n: int,
    rate: float,
    clock: Callable[[], datetime],
    began: datetime,
    say: Callable[[str], None],
) -> Iterator[NewRecord]:
    """Each camera in turn; what it shows is what the story says of the moment that it is sent for."""
    rng, announced = np.random.default_rng(13), set[Scene]()
    for i in range(n):
        camera = CAMERAS[i % len(CAMERAS)]
        at_s = i / rate
        scene = on_stage(scenes, at_s).get(camera)
        for new in [one for one in scenes if one.start_s <= at_s and one not in announced]:
            announced.add(new)
            say(f"{at_s:.0f} s, {clock():%H:%MZ}: {new.told}, until {new.end_s:.0f} s")
        value = pictures.shown(scene, at_s, rng)
        if i % BROKEN_EVERY == BROKEN_EVERY - 1:
            value = value[: len(value) // 2]
        yield NewRecord(
            key=camera.encode(),
            value=value,
            headers=(("segment", camera.encode()), ("id", f"{camera}/{i}".encode())),
            timestamp=max(clock(), began),
        )
