"""Runs in a peer's own environment: python peer_program.py LIBRARY STREAMS.npz SECONDS; prints JSON lines.

Every detector at its default, then at the most sensitive setting with at most one false alarm in a million images.
Nothing of this project is imported: the environment holds the peer alone.
"""

import importlib
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Make = Callable[[], Callable[[float], bool]]
_MATCHED = 1e-6  # false alarms an image


@dataclass(frozen=True)
class Peer:
    """A detector with one knob: settings from sensitive to insensitive, of which `default` is the library's."""

    name: str
    make: Callable[[Any], Make]
    settings: Sequence[Any] = (None,)
    default: int = 0
    of: str = "flags"


def _river(kind: str, **options: Any) -> Make:
    drift = importlib.import_module("river.drift")
    of = getattr(drift, kind, None) or getattr(drift.binary, kind)

    def made() -> Callable[[float], bool]:
        detector = of(**options)

        def update(value: float) -> bool:
            detector.update(value)
            return bool(detector.drift_detected)

        return update

    return made


def _frouros(kind: str, **options: Any) -> Make:
    drift = importlib.import_module("frouros.detectors.concept_drift")

    def made() -> Callable[[float], bool]:
        detector = getattr(drift, kind)(config=getattr(drift, f"{kind}Config")(**options))

        def update(value: float) -> bool:
            detector.update(value=value)
            return bool(detector.drift)

        return update

    return made


def _powers(first: float, factor: float, count: int) -> list[float]:
    return [first * factor**i for i in range(count)]


def river_peers() -> list[Peer]:
    """Of river 0.23."""
    return [
        Peer("ADWIN", lambda v: _river("ADWIN", delta=v), _powers(0.2, 0.1, 8), 2),
        Peer("PageHinkley", lambda v: _river("PageHinkley", threshold=v), _powers(50 / 1.3**6, 1.3, 14), 6),
        Peer("HDDM_A", lambda v: _river("HDDM_A", drift_confidence=v), _powers(0.01, 0.1, 10), 1),
        Peer("HDDM_W", lambda v: _river("HDDM_W", drift_confidence=v), _powers(0.1, 0.1, 10), 2),
        Peer("DDM", lambda v: _river("DDM", drift_threshold=v), [2.5 + 0.5 * i for i in range(10)], 1),
        Peer("EDDM", lambda v: _river("EDDM", alpha=min(v + 0.05, 1), beta=v), [0.9 - 0.05 * i for i in range(12)]),
        Peer("FHDDM", lambda v: _river("FHDDM", confidence_level=v), _powers(0.1, 0.1, 8), 5),
        Peer("KSWIN", lambda v: _river("KSWIN", alpha=v, seed=1), _powers(0.005, 0.1, 6), 0, "energies"),
    ]


def frouros_peers() -> list[Peer]:
    """Of frouros 0.9."""
    return [
        Peer("CUSUM", lambda v: _frouros("CUSUM", lambda_=v), _powers(50 / 1.3**8, 1.3, 14), 8),
        Peer("PageHinkley", lambda v: _frouros("PageHinkley", lambda_=v), _powers(50 / 1.3**8, 1.3, 14), 8),
        Peer(
            "GMA",
            lambda v: _frouros("GeometricMovingAverage", lambda_=v),
            [0.06 + 0.02 * i for i in range(10)] + [1.0],
            10,
        ),
        Peer("HDDM_A", lambda v: _frouros("HDDMA", alpha_d=v, alpha_w=5 * v), _powers(0.01, 0.1, 8), 1),
        Peer("STEPD", lambda v: _frouros("STEPD", alpha_d=v), _powers(0.003, 0.1, 8)),
        Peer(
            "RDDM",
            lambda v: _frouros("RDDM", drift_level=v, warning_level=v - 0.4),
            [2.258 + 0.4 * i for i in range(10)],
        ),
        Peer("ECDD-WT", lambda _: _frouros("ECDDWT")),
    ]


def alibi_peers(reference: np.ndarray, energies: np.ndarray) -> list[Peer]:
    """Of alibi-detect: set up once, which takes a minute each."""
    module = importlib.import_module("alibi_detect.cd")

    def online(kind: str, x_ref: np.ndarray, **options: Any) -> Make:
        detector = getattr(module, kind)(x_ref, ert=1_000, window_sizes=[20, 50], verbose=False, **options)

        def made() -> Callable[[float], bool]:
            detector.reset_state()
            return lambda value: bool(detector.predict(np.array([value]))["data"]["is_drift"])

        return made

    fet = online("FETDriftOnline", reference.astype(np.int64), alternative="greater")
    cvm = online("CVMDriftOnline", energies)
    return [Peer("FETDriftOnline", lambda _: fet), Peer("CVMDriftOnline", lambda _: cvm, of="energies")]


def alarms(make: Make, values: Sequence[float], most: float, seconds: float) -> tuple[int, int]:
    """False alarms, and images seen until there were too many or time was up; a new start after each alarm."""
    update = make()
    count, end = 0, time.monotonic() + seconds
    for i, value in enumerate(values, 1):
        if update(value):
            count += 1
            update = make()
            if count > most:
                return count, i
        if i % 1_000 == 0 and time.monotonic() > end:
            return count, i
    return count, len(values)


def delays(make: Make, runs: np.ndarray, changes: np.ndarray, seconds: float) -> list[float]:
    """Images until each run's change is found; alarms before it start anew."""
    found: list[float] = []
    end = time.monotonic() + seconds
    for run, change in zip(runs, changes.tolist(), strict=True):
        if found and time.monotonic() > end:
            break
        update = make()
        delay = float("inf")
        for i, value in enumerate(run.tolist()):
            if update(value):
                if i >= change:
                    delay = i - change + 1
                    break
                update = make()
        found.append(delay)
    return found


def matched(peer: Peer, clean: Sequence[float], seconds: float) -> int | None:
    """The most sensitive setting with at most one false alarm in a million; None where none is, or time was short."""
    low, high, best = 0, len(peer.settings) - 1, None
    while low <= high:
        middle = (low + high) // 2
        count, seen = alarms(peer.make(peer.settings[middle]), clean, _MATCHED * len(clean), seconds)
        if seen < len(clean) and count <= _MATCHED * len(clean):
            return None
        if count <= _MATCHED * len(clean):
            best, high = middle, middle - 1
        else:
            low = middle + 1
    return best


def examine(peer: Peer, streams: Any, seconds: float, *, match: bool) -> Iterator[dict[str, Any]]:
    """One line a setting."""
    clean, changes = streams[f"clean_{peer.of}"].tolist(), streams["changes"]
    settings = {"default": peer.default}
    if match and len(peer.settings) > 1:
        at = matched(peer, clean, seconds)
        if at is None:
            yield {"detector": peer.name, "setting": "matched", "skipped": "no setting, or more time than was given"}
        else:
            settings["matched"] = at
    for name, index in settings.items():
        make = peer.make(peer.settings[index])
        begun = time.process_time()
        count, seen = alarms(make, clean, float("inf"), seconds)
        line: dict[str, Any] = {"detector": peer.name, "setting": name, "knob": peer.settings[index]}
        line |= {"alarms": count, "images": seen, "us_an_image": (time.process_time() - begun) / seen * 1e6}
        for share in ("10", "20", "50"):
            found = np.sort(delays(make, streams[f"{peer.of}_{share}"], changes, seconds))
            ranks = [int(np.ceil(q * len(found))) - 1 for q in (0.5, 0.95)]
            line[f"to_{share}"] = [float(found[i]) if np.isfinite(found[i]) else None for i in ranks]
            line["runs"] = len(found)
        yield line


def main() -> None:
    """Examine one library's detectors."""
    library, path, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    streams = np.load(path)
    if library == "alibi-detect":
        peers = alibi_peers(streams["reference_flags"], streams["reference_energies"])
    else:
        peers = river_peers() if library == "river" else frouros_peers()
    for peer in peers:
        for line in examine(peer, streams, seconds, match=library != "alibi-detect"):
            sys.stdout.write(json.dumps({"library": library} | line) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
