"""The demo: three cameras show digits to a digit reader; after a while one of them shows cats.

Everything is the product itself: package, calibration, spool, worker, database. Only the terminal
table is the demo's own.
"""

import math
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pipeline.assembly.calibrating import run_calibration
from pipeline.assembly.working import run_worker
from pipeline.demo import digits
from pipeline.demo.screen import Screen
from pipeline.errors import OodwatchError, UsageError
from pipeline.ingest.image_files import find_images
from pipeline.ingest.produce import send
from pipeline.ingest.source import NewRecord
from pipeline.ingest.spool import Spool
from pipeline.models.packaging import make_package
from pipeline.models.preprocessing import Preprocessing
from pipeline.records import Pixels, utc_now
from pipeline.settings import HttpSettings, Settings, SourceSettings, load_settings
from pipeline.stages.rows import Entry

CAMERAS = ("north", "south", "east")
CAT_CAMERA = "east"
CATS_FROM = 1 / 3  # of the demo's time
RATE = 60.0  # records a second, all cameras together
BROKEN_EVERY = 97  # a truncated image now and then: dead letters are part of the picture


@dataclass(slots=True)
class Tally:
    """What the worker has stored, per camera; filled from the writer thread."""

    images: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAMERAS, 0))
    flagged: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CAMERAS, 0))
    recent: dict[str, list[tuple[float, int, int]]] = field(default_factory=lambda: {name: [] for name in CAMERAS})
    dead: int = 0

    @property
    def total(self) -> int:
        """Records that ended as a row or as a dead letter."""
        return sum(self.images.values()) + self.dead

    def add(self, entry: Entry, now_s: float) -> None:
        """Count a stored batch."""
        self.dead += len(entry.batch.dead)
        seen = dict.fromkeys(CAMERAS, 0)
        hits = dict.fromkeys(CAMERAS, 0)
        for image, flag in zip(entry.batch.images, entry.flags.tolist(), strict=True):
            seen[image.message.segment] += 1
            hits[image.message.segment] += flag
        for camera in CAMERAS:
            self.images[camera] += seen[camera]
            self.flagged[camera] += hits[camera]
            self.recent[camera].append((now_s, seen[camera], hits[camera]))


@dataclass(frozen=True, slots=True)
class Summary:
    """How the demo ended."""

    images: int
    dead_letters: int
    flagged: dict[str, float]
    threshold: float
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """The last line of `oodwatch demo --json`."""
        return {
            "images": self.images,
            "dead_letters": self.dead_letters,
            "flagged": self.flagged,
            "alerts": [],  # the monitor is not part of this release
        }

    def as_text(self) -> str:
        """The same for a person."""
        shares = "\n".join(
            f"  camera {camera:<6} {share:6.1%} unusual" + ("   <- was shown cats" if camera == CAT_CAMERA else "")
            for camera, share in self.flagged.items()
        )
        return (
            f"{self.images:,} images scored exactly once, {self.dead_letters} broken ones became dead letters"
            f" ({self.seconds:.0f} s in all)\n{shares}\n"
            f"unusual = energy above {self.threshold:.2f} nats, which about 5 % of normal digits exceed"
        )


def run_demo(
    *, seconds: float, live: bool, stop: threading.Event, say: Callable[[str], None], keep: Path | None = None
) -> Summary:
    """Play the scenario once; ends by itself, or early when `stop` is set.

    `keep` names a new folder for the package, the database and images to go on with.
    """
    if keep is not None and keep.exists():
        raise UsageError(f"--keep {keep}: is there already; name a new folder")

    def unless_stopped(_done: int) -> None:
        if stop.is_set():
            raise KeyboardInterrupt  # nothing has been shown yet: there is nothing to sum up

    began = time.monotonic()
    torch.set_num_threads(1)  # the model is tiny: more threads only get in each other's way
    with tempfile.TemporaryDirectory(prefix="oodwatch-demo-") as folder:
        home = Path(folder) if keep is None else keep
        home.mkdir(parents=True, exist_ok=True)
        images = digits.load_images()
        settings = _settings(home)
        threshold = _prepare_model(settings, images, home, say, unless_stopped)
        unless_stopped(0)
        say(f"sending {RATE:.0f} images a second for {seconds:.0f} s; camera {CAT_CAMERA} shows cats after a third")
        tally = Tally()
        _stream(settings, images, home, seconds, tally, Screen(tally, CAMERAS, live=live), stop, say)
        if keep is not None:
            _write_sets(images, keep)
    return Summary(
        images=sum(tally.images.values()),
        dead_letters=tally.dead,
        flagged={camera: round(tally.flagged[camera] / max(1, tally.images[camera]), 4) for camera in CAMERAS},
        threshold=threshold,
        seconds=time.monotonic() - began,
    )


def _write_sets(images: digits.DemoImages, home: Path) -> None:
    """What a repair needs: normal images with labels, images of something else, and what to judge by."""
    digits.write_images(images.train, home / "train", images.train_labels)
    digits.write_images(images.stream, home / "digits-seen", images.stream_labels)
    digits.write_images(digits.cut_others(360, np.random.default_rng(2)), home / "others")
    digits.write_images(images.cats, home / "cats")
    digits.write_images(digits.lying(images.stream), home / "lying")


def _settings(home: Path) -> Settings:
    return load_settings(
        database=f"sqlite:///{home / 'demo.db'}",
        source=SourceSettings(url=f"spool:{home / 'spool'}/images"),
        model=home / "digits",
        deployment="digits",
        http=HttpSettings(listen="off"),
    )


def _prepare_model(
    settings: Settings,
    images: digits.DemoImages,
    home: Path,
    say: Callable[[str], None],
    progress: Callable[[int], None],
) -> float:
    """Train, package and calibrate; return the threshold."""
    say("training a digit reader (73,000 parameters) on 900 digits ...")
    weights, classes = home / "digits.pt", home / "classes.txt"
    torch.save(digits.train(images, progress=progress), weights)
    classes.write_text("\n".join(digits.CLASSES))
    half = (0.5, 0.5, 0.5)
    make_package(
        home / "digits",
        architecture="pipeline.demo.digits:digit_reader",
        weights=weights,
        classes=classes,
        head="head",
        preprocessing=Preprocessing(digits.INPUT_SIZE, digits.INPUT_SIZE, mean=half, std=half),
    )
    say(f"calibrating on {len(images.calibrate)} other digits ...")
    digits.write_images(images.calibrate, home / "calibrate", images.calibrate_labels)
    files = [(file.path, file.parent) for file in find_images([home / "calibrate"])]
    made = run_calibration(settings, files, target_fpr=0.05, temperature=1.0, representative=True, progress=progress)
    return made.reference.threshold


def _stream(
    settings: Settings,
    images: digits.DemoImages,
    home: Path,
    seconds: float,
    tally: Tally,
    screen: Screen,
    stop: threading.Event,
    say: Callable[[str], None],
) -> None:
    """Produce in one thread, score in another, draw here."""
    spool = Spool(home / "spool", "images", partitions=3)
    failures: list[BaseException] = []
    sent: list[int] = []  # how many records there are, once the producer knows
    finished = threading.Event()

    def produce() -> None:
        records = _traffic(images, home, round(seconds * RATE), say)
        result = send(records, spool.append, rate=RATE, clock=time.monotonic, sleep=time.sleep, stop=stop.is_set)
        sent.append(result.sent)
        if tally.total >= result.sent:
            finished.set()

    def score() -> None:
        run_worker(settings, start_at="earliest", drain=False, stop=finished, on_stored=count)

    def count(entry: Entry) -> None:
        tally.add(entry, time.monotonic())
        if sent and tally.total >= sent[0]:
            finished.set()

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as failure:
            failures.append(failure)
            stop.set()
            finished.set()

    producer = threading.Thread(target=guarded, args=(produce,), daemon=True)
    worker = threading.Thread(target=guarded, args=(score,), daemon=True)
    producer.start()
    worker.start()
    screen.draw_until(lambda: not worker.is_alive())
    spool.close()
    if failures:
        failure = failures[0]
        raise failure if isinstance(failure, OodwatchError) else RuntimeError("the demo failed") from failure


def _traffic(images: digits.DemoImages, home: Path, n: int, say: Callable[[str], None]) -> Iterator[NewRecord]:
    """Digits from three cameras; after a third of the time one camera shows cats. Some images are broken."""
    shown = {name: _encoded(home / name, pixels) for name, pixels in (("d", images.stream), ("c", images.cats))}
    cats_from = math.ceil(n * CATS_FROM)
    for i in range(n):
        if i == cats_from:
            say(f"now camera {CAT_CAMERA} shows cats")
        camera = CAMERAS[i % len(CAMERAS)]
        what = "c" if camera == CAT_CAMERA and i >= cats_from else "d"
        turn = i // len(CAMERAS) + 97 * CAMERAS.index(camera)  # cameras do not see the same digit at once
        value = shown[what][turn % len(shown[what])]
        if i % BROKEN_EVERY == BROKEN_EVERY - 1:
            value = value[: len(value) // 2]
        yield NewRecord(
            key=camera.encode(),
            value=value,
            headers=(("segment", camera.encode()), ("id", f"{camera}/{i}".encode())),
            timestamp=utc_now(),
        )


def _encoded(folder: Path, pixels: Pixels) -> list[bytes]:
    digits.write_images(pixels, folder)
    return [path.read_bytes() for path in sorted(folder.iterdir())]
