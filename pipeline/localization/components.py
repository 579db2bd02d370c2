"""A segmenter without weights: connected pieces of similar colour. It is not Segment Anything, and says so.

Neighbouring pixels belong together where their colours differ by at most a tolerance; three tolerances stand
for part, thing and whole. Good for flat colours and sharp outlines, poor for texture.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, sparse

from pipeline.localization.regions import Mask, enlarged, overlap, regions_of_their_own
from pipeline.localization.segmenter import Candidate, Picture, Point, Prompt
from pipeline.records import Pixels

_TOLERANCES = (12.0, 24.0, 48.0)  # of 0..255, the largest difference of a channel between neighbours
_LAXER = 1.15  # by which a stable piece's tolerance may grow
_SIDE = 256  # the longer side that is looked at
_MOST = 40  # pieces of each tolerance, the largest
_LEAST, _LEAST_PIXELS = 0.005, 4  # share of the picture, and pixels of it as reduced

Labels = NDArray[np.int32]  # (h, w): the piece that each pixel belongs to


class ComponentSegmenter:
    """Stateless: everything is found anew for each prompt."""

    @property
    def name(self) -> str:
        """Honest."""
        return "components (not Segment Anything)"

    def segment(self, picture: Picture, prompt: Prompt) -> list[Candidate]:
        """See `Segmenter`. A drawn region is taken as it is, and further points add pieces to it or take them away."""
        pieces = [_pieces(picture.pixels, tolerance) for tolerance in _TOLERANCES]
        laxer = [_pieces(picture.pixels, tolerance * _LAXER) for tolerance in _TOLERANCES]
        candidates = [
            _candidate(_chosen(labels, prompt, picture), _chosen(lax, prompt, picture))
            for labels, lax in zip(pieces, laxer, strict=True)
        ]
        if prompt.is_ambiguous and not prompt.wants_one:
            return candidates
        return [max(candidates, key=lambda candidate: candidate.score)]

    def everything(self, picture: Picture) -> list[Candidate]:
        """The largest pieces of every tolerance, each region once."""
        found: list[Candidate] = []
        for tolerance in _TOLERANCES:
            labels, lax = _pieces(picture.pixels, tolerance), _pieces(picture.pixels, tolerance * _LAXER)
            sizes = np.bincount(labels.ravel())
            largest = np.argsort(-sizes, kind="stable")[:_MOST]
            for piece in largest[sizes[largest] >= max(_LEAST_PIXELS, _LEAST * labels.size)].tolist():
                mask = labels == piece
                at = np.unravel_index(int(mask.argmax()), mask.shape)
                found.append(_candidate(_full(mask, picture), _full(lax == lax[at], picture)))
        found.sort(key=lambda candidate: -candidate.score)
        return [found[i] for i in regions_of_their_own([candidate.mask for candidate in found])]


def _pieces(pixels: Pixels, tolerance: float) -> Labels:
    """Which connected piece each pixel of the reduced picture belongs to."""
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    colours = np.asarray(image).astype(np.int16)
    height, width = colours.shape[:2]
    numbers = np.arange(height * width).reshape(height, width)
    right = np.abs(np.diff(colours, axis=1)).max(axis=2) <= tolerance
    down = np.abs(np.diff(colours, axis=0)).max(axis=2) <= tolerance
    ends = np.concatenate(
        [
            np.stack([numbers[:, :-1][right], numbers[:, 1:][right]]),
            np.stack([numbers[:-1][down], numbers[1:][down]]),
        ],
        axis=1,
    )
    graph = sparse.coo_array((np.ones(ends.shape[1], np.bool_), tuple(ends)), shape=(numbers.size, numbers.size))
    _, labels = sparse.csgraph.connected_components(graph, directed=False)
    pieces: Labels = labels.astype(np.int32).reshape(height, width)
    return pieces


def _chosen(labels: Labels, prompt: Prompt, picture: Picture) -> Mask:
    """What a prompt means among these pieces."""
    height, width = picture.pixels.shape[:2]
    if prompt.drawn is not None:
        mask = prompt.drawn.copy()
    elif prompt.box is not None:
        mask = _in_box(_full(np.zeros(labels.shape, np.bool_), picture), prompt, labels, picture)
    else:
        mask = np.zeros((height, width), np.bool_)
    for point in prompt.points:
        piece = _full(labels == _at(labels, point, picture), picture)
        mask = mask | piece if point.is_inside else mask & ~piece
    return np.asarray(ndimage.binary_fill_holes(mask)) if mask.any() else mask


def _in_box(mask: Mask, prompt: Prompt, labels: Labels, picture: Picture) -> Mask:
    """The pieces that lie at least half inside of the box; all of the box where none does."""
    assert prompt.box is not None
    x0, y0, x1, y1 = (round(value) for value in prompt.box)
    mask[y0 : y1 + 1, x0 : x1 + 1] = True
    small = enlarged(mask, *labels.shape)
    inside = np.bincount(labels.ravel(), small.ravel()) / np.bincount(labels.ravel())
    pieces = np.flatnonzero(inside >= 0.5)
    found = _full(np.isin(labels, pieces), picture) & mask
    return found if found.any() else mask


def _at(labels: Labels, point: Point, picture: Picture) -> int:
    height, width = picture.pixels.shape[:2]
    return int(labels[int(point.y * labels.shape[0] / height), int(point.x * labels.shape[1] / width)])


def _full(mask: Mask, picture: Picture) -> Mask:
    return enlarged(mask, *picture.pixels.shape[:2])


def _candidate(mask: Mask, laxer: Mask) -> Candidate:
    """What a slightly laxer tolerance leaves unchanged is a piece of its own: its score is that overlap."""
    stability = overlap(mask, laxer)
    return Candidate(mask, stability, stability)
