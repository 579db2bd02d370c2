"""What a person may get wrong about `oodwatch explain`, with the files that it takes."""

from pathlib import Path

import numpy as np
from PIL import Image

BAD: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "a point outside": (("thing.png", "--point", "70,3"), 2, ("point 70,3 lies outside", "64 x 64")),
    "x and y swapped": (("wide.png", "--point", "20,60"), 2, ("with x and y swapped",)),
    "no numbers": (("thing.png", "--point", "a,b"), 2, ("--point 'a,b'", "write x,y or x,y,0")),
    "a label of its own": (("thing.png", "--point", "1,1,7"), 2, ("--point '1,1,7'",)),
    "a reversed box": (("thing.png", "--box", "30,30,6,6"), 2, ("reversed or empty", "left,top,right,bottom")),
    "a box of three": (("thing.png", "--box", "1,2,3"), 2, ("--box '1,2,3'",)),
    "a mask of another shape": (("thing.png", "--mask", "wide.png"), 2, ("80 x 40", "64 x 64")),
    "an empty mask": (("thing.png", "--mask", "black.png"), 2, ("the mask is empty",)),
    "only outside": (("thing.png", "--point", "1,1,0"), 2, ("points say only what the region is not",)),
    "16 bits": (("deep.png", "--auto"), 2, ("deep.png", "I;16", "8-bit")),
    "no image": (("text.png", "--auto"), 2, ("text.png", "no image")),
    "no file": (("nowhere.png", "--auto"), 2, ("nowhere.png", "No such file")),
    "too large": (("huge.png", "--auto"), 2, ("7000 x 6000", "40,000,000")),
    "no weights": (("thing.png", "--auto", "--sam", "."), 2, ("--sam", "no model in it")),
    "a refinement of one click": (("thing.png", "--point", "1,1", "--refine", "1"), 2, ("needs a further point",)),
    "two questions": (("thing.png", "--auto", "--point", "1,1"), 2, ("exclude each other",)),
    "an image and an id": (("thing.png", "--id", "a"), 2, ("exactly one of them",)),
    "no folder for the picture": (("thing.png", "--out", "none/o.png"), 2, ("there is no folder",)),
    "an unknown id": (("--id", "nobody"), 2, ("no scored image has the id 'nobody'",)),
}


def saved(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def with_a_thing(side: int = 64) -> np.ndarray:
    """Dark ground with a white square in the upper left quarter."""
    pixels = np.full((side, side, 3), 16, np.uint8)
    pixels[side // 8 : side // 2 - 4, side // 8 : side // 2 - 4] = 250
    return pixels


def prepare(folder: Path, case: str) -> None:
    """The files that the cases name; the huge one only where it is needed."""
    saved(folder / "thing.png", with_a_thing())
    saved(folder / "wide.png", np.full((40, 80, 3), 9, np.uint8))
    saved(folder / "black.png", np.zeros((64, 64, 3), np.uint8))
    Image.fromarray(np.zeros((8, 8), np.uint16)).save(folder / "deep.png")
    (folder / "text.png").write_text("no image at all")
    if case == "too large":
        Image.new("1", (7000, 6000)).save(folder / "huge.png")
