"""Other libraries' detectors, each library in an environment of its own that is thrown away."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.simulation.finding import quantiles
from tests.benchmarks.detector import streams

_PROGRAM = Path(__file__).with_name("peer_program.py")
#: What is installed; river 0.23.0 forgets to ask for typing_extensions.
LIBRARIES = {
    "river": ["river==0.23.0", "typing_extensions"],
    "frouros": ["frouros==0.9.0"],
    "alibi-detect": ["alibi-detect==0.13.0"],
}
_INSTALLING = 900  # seconds


@dataclass(frozen=True)
class OfPeer:
    """One detector at one setting: images (median, 95 %) until shares are found; None: never, or skipped."""

    library: str
    detector: str
    setting: str  # default, or matched: at most one false alarm in a million images
    knob: float | None = None
    alarms: int | None = None  # false ones, in so many images
    images: int | None = None
    to_10: tuple[float | None, float | None] | None = None
    to_20: tuple[float | None, float | None] | None = None
    to_50: tuple[float | None, float | None] | None = None
    runs: int | None = None
    us_an_image: float | None = None
    skipped: str = ""


def measure(library: str, *, clean: int, runs: int, seconds: float, seed: int) -> Iterator[OfPeer]:
    """Install a library and run its detectors, `seconds` at most for each of their streams."""
    with tempfile.TemporaryDirectory(prefix="oodwatch-peer-") as folder:
        python = Path(folder, "venv", "bin", "python")
        failed = _installed(LIBRARIES[library], python)
        if failed:
            yield OfPeer(library, "all", "", skipped=failed)
            return
        file = str(Path(folder, "streams.npz"))
        online = library == "alibi-detect"  # bootstraps its windows: only short run lengths can be had
        change, after = (150, 3_000) if online else (streams.CHANGE, 6_000)
        streams.write_streams(file, clean=clean, runs=runs, change=change, after=after, seed=seed)
        command = [str(python), str(_PROGRAM), library, file, str(seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            for text in process.stdout:
                yield OfPeer(**{key: _plain(value) for key, value in json.loads(text).items()})
            said = process.stderr.read().strip().splitlines()
        if process.returncode:
            yield OfPeer(library, "all", "", skipped=said[-1] if said else f"ended with {process.returncode}")


def own(mean_images: float, *, change: int, runs: int, length: int, seed: int) -> OfPeer:
    """The product's e-SR at every image, promised one false alarm in `mean_images`, over `length` images."""
    side = 1_000
    alarms, images = streams.run_length(
        streams.e_sr(side, mean_images), side, length // side, np.random.default_rng(seed)
    )
    found = []
    for share in (0.1, 0.2, 0.5):
        step, rng = streams.e_sr(runs, mean_images), np.random.default_rng(seed + 1)
        found.append(quantiles(streams.delays(step, share, runs, rng, change=change, limit=6_000)))
    return OfPeer(
        library="oodwatch",
        detector="e-SR",
        setting=f"A = {mean_images:,.0f}",
        knob=mean_images,
        alarms=alarms,
        images=images,
        to_10=found[0],
        to_20=found[1],
        to_50=found[2],
        runs=runs,
    )


def _installed(packages: list[str], python: Path) -> str:
    """Make the environment; why it could not be made, or nothing."""
    uv = Path(sys.executable).with_name("uv")
    environment = str(python.parents[1])
    commands: list[list[str]]
    if uv.exists():
        commands = [
            [str(uv), "venv", "-q", "--python", sys.executable, environment],
            [str(uv), "pip", "install", "-q", "--python", str(python), *packages],
        ]
    else:
        commands = [[sys.executable, "-m", "venv", environment], [str(python), "-m", "pip", "install", "-q", *packages]]
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALLING, check=False)
        except subprocess.TimeoutExpired:
            return f"does not install within {_INSTALLING} s"
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["does not install"])[-1]
    return ""


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
