"""Traffic of many deployments, tick by tick, as counts of images by cell of their score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtr, ndtri

from pipeline.records import Float64s
from pipeline.shift.budget import MINUTES_PER_DAY
from pipeline.simulation.damage import Change
from pipeline.simulation.population import Population

_NIGHT = 2 * 60  # minute of the day at which traffic is least, and its scores highest
_HIGHEST_RATE = 0.9  # flag rate that wandering scores reach at most
_AT_ONCE = 2_000_000  # counts in memory


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one deployment sees. Segments have equal shares of it; each wanders on its own."""

    images_per_minute: float = 60.0  # of all segments, mean of the day
    segments: int = 1
    minutes: float = 1.0  # of a tick
    burst: int = 1  # images in a row with the same score
    shape: float | None = None  # of negative binomial counts; None: Poisson
    memory: float = 0.0  # probability that an image's score is its predecessor's (Markov chain)
    night: float = 1.0  # traffic at night, as a share of that by day
    rate_by_day: float = 1.0  # flag rate at its lowest, by day, and
    rate_by_night: float = 1.0  # at its highest, times the calibrated one; all scores move
    wander_hours: float = 0.0  # memory of a flag rate that wanders slowly
    wander_sd: float = 0.0  # of the logarithm of that rate
    classes: int = 0  # predicted classes, equally frequent; 0: none are counted

    @property
    def moves(self) -> bool:
        """Whether normal scores change in the course of time."""
        return self.wander_sd > 0 or (self.rate_by_day, self.rate_by_night) != (1.0, 1.0)


class Counted(NamedTuple):
    """Counts of T ticks."""

    cells: Float64s  # (T, S, R, C)
    classes: Float64s | None  # (T, R, K)


class Source:
    """A stretch of traffic after the other; `tick` is the number of the next one."""

    def __init__(self, traffic: Traffic, population: Population, rng: np.random.Generator) -> None:
        self.traffic, self.population, self.rng = traffic, population, rng
        self.tick = 0
        shape = (traffic.segments, len(population))
        self._wander = traffic.wander_sd * rng.standard_normal(shape)
        self._last = np.full(shape, -1, np.int64)  # cell of the last image, for a Markov chain

    @property
    def at_once(self) -> int:
        """Ticks that fit into memory."""
        row = self.traffic.segments * self.population.shares.size
        return max(1, min(1_000, _AT_ONCE // row))

    def take(self, ticks: int, changes: Sequence[Change] = ()) -> Counted:
        """The next ticks."""
        at = np.arange(self.tick, self.tick + ticks, dtype=np.float64)
        volume = self._volume(at)
        shares = self._shares(at)
        for change in changes:
            shares = _changed(shares, change, at, self.traffic.segments)
        burst = self.traffic.burst
        if self.traffic.memory:
            cells = self._chained(volume, np.broadcast_to(shares, (*volume.shape, shares.shape[-1])))
        else:
            cells = burst * self.rng.poisson(volume[..., None] / burst * shares).astype(np.float64)
        self.tick += ticks
        classes = None
        if self.traffic.classes:
            mean = volume.sum(axis=1)[..., None] / (burst * self.traffic.classes)
            shape = (*mean.shape[:2], self.traffic.classes)
            classes = burst * self.rng.poisson(np.broadcast_to(mean, shape)).astype(np.float64)
        return Counted(cells, classes)

    def _volume(self, at: Float64s) -> Float64s:
        """(T, S, R): images to be expected in each tick."""
        traffic = self.traffic
        by_day = 1 - (1 - traffic.night) * self._night(at)
        mean = traffic.images_per_minute * traffic.minutes / traffic.segments
        volume = (mean * by_day / ((1 + traffic.night) / 2))[:, None, None] * np.ones(self._wander.shape)
        if traffic.shape is not None:
            volume *= self.rng.standard_gamma(traffic.shape, volume.shape) / traffic.shape
        return volume

    def _night(self, at: Float64s) -> Float64s:
        """(T,): 0 by day to 1 by night."""
        phase = 2 * np.pi * (at * self.traffic.minutes - _NIGHT) / MINUTES_PER_DAY
        night: Float64s = (1 + np.cos(phase)) / 2
        return night

    def _shares(self, at: Float64s) -> Float64s:
        """(T or 1, S or 1, R, C): of normal images in each cell."""
        if not self.traffic.moves:
            return self.population.shares[None, None]
        traffic = self.traffic
        factor = traffic.rate_by_day + (traffic.rate_by_night - traffic.rate_by_day) * self._night(at)
        log_factor = np.log(factor)[:, None, None] + self._wandered(len(at))
        p = self.population.flag_rate
        rate = np.minimum(p * np.exp(log_factor), _HIGHEST_RATE)
        shift = ndtri(1 - p) - ndtri(1 - rate)
        below = ndtr(self.population.z - shift[..., None])
        return np.diff(below, axis=-1, prepend=0, append=1)

    def _wandered(self, ticks: int) -> Float64s:
        """(T, S, R): an AR(1) process in time, of mean −sd²/2: the rate's mean is the calibrated one."""
        sd, hours = self.traffic.wander_sd, self.traffic.wander_hours
        if not sd:
            return np.zeros((ticks, *self._wander.shape))
        keeps = np.exp(-self.traffic.minutes / (60 * hours))
        noise = sd * np.sqrt(1 - keeps**2) * self.rng.standard_normal((ticks, *self._wander.shape))
        path, _ = lfilter([1.0], [1.0, -keeps], noise, axis=0, zi=(keeps * self._wander)[None])
        self._wander = path[-1]
        wandered: Float64s = path - sd**2 / 2
        return wandered

    def _chained(self, volume: Float64s, shares: Float64s) -> Float64s:
        """Counts of images that repeat their predecessor's cell with probability `memory`."""
        images = self.rng.poisson(volume)
        counts = np.zeros(shares.shape)
        for s, r in np.ndindex(images.shape[1:]):
            of_tick = np.repeat(np.arange(len(images)), images[:, s, r])
            if not len(of_tick):
                continue
            below = np.cumsum(shares[:, s, r], axis=1)[:, :-1]
            cell = (self.rng.random(len(of_tick))[:, None] > below[of_tick]).sum(axis=1)
            repeats = self.rng.random(len(of_tick)) < self.traffic.memory
            if self._last[s, r] < 0:
                repeats[0] = False
            elif repeats[0]:
                cell[0] = self._last[s, r]
            origin = np.maximum.accumulate(np.where(repeats, 0, np.arange(len(cell))))
            cell = cell[origin]
            self._last[s, r] = cell[-1]
            np.add.at(counts[:, s, r], (of_tick, cell), 1)
        return counts


def _changed(shares: Float64s, change: Change, at: Float64s, segments: int) -> Float64s:
    weights = change.weight(at)
    if not weights.any():
        return shares
    where = np.ones(segments) if change.segments is None else np.isin(np.arange(segments), change.segments)
    w = weights[:, None, :, None] * where[:, None, None]
    return shares * (1 - w) + w * change.cells
