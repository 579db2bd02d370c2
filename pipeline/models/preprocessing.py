"""Pixels → the model's input: resize and crop on the CPU, normalise on the device."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from pipeline.records import Pixels


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What training did to its images."""

    input_size: int
    resize: int  # shorter side before the centre crop
    mean: tuple[float, float, float]  # per channel in the order of `colour`, on a 0..1 scale
    std: tuple[float, float, float]
    colour: str = "RGB"  # RGB or BGR
    exif_orientation: bool = False


def fit(pixels: Pixels, preprocessing: Preprocessing) -> Pixels:
    """(H, W, 3) → (N, N, 3) uint8: shorter side to `resize` by antialiased bilinear, then centre crop.

    The same pixels as torchvision's Resize and CenterCrop on PIL images.
    """
    height, width = pixels.shape[:2]
    short, target = min(height, width), preprocessing.resize
    if short != target:
        # torchvision truncates the longer side: int(target * long / short)
        size = (target, int(target * height / width)) if width <= height else (int(target * width / height), target)
        pixels = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    return _centre_crop(pixels, preprocessing.input_size)


class Normalise(nn.Module):
    """(B, N, N, 3) uint8 RGB → (B, 3, N, N) float32, channels last in memory."""

    mean: Tensor
    scale: Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self._bgr = preprocessing.colour == "BGR"
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(preprocessing.std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """(x / 255 − mean) / std."""
        batch = images.permute(0, 3, 1, 2)  # (B, 3, N, N); the memory stays channels last
        if self._bgr:
            batch = batch.flip(1)
        return batch.float().div_(255).sub_(self.mean).div_(self.scale)


def _centre_crop(pixels: Pixels, side: int) -> Pixels:
    height, width = pixels.shape[:2]
    if height == width == side:
        return pixels
    if height < side or width < side:  # a resize smaller than the crop: pad with black, as torchvision
        top, left = max(0, side - height) // 2, max(0, side - width) // 2
        bottom, right = max(0, side - height) - top, max(0, side - width) - left
        pixels = np.pad(pixels, ((top, bottom), (left, right), (0, 0)))
        height, width = pixels.shape[:2]
    top, left = round((height - side) / 2), round((width - side) / 2)
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])
