"""What the six cameras show, and when. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

CAMERAS = ("gate", "dock", "belt-1", "belt-2", "press", "hall")
SHORTEST_WHOLE_S = 300  # below, there is time for the first scene and its end only


@dataclass(frozen=True, slots=True)
class Scene:
    """One camera shows something else for a while; seconds since the first image."""

    what: str
    camera: str
    start_s: float
    end_s: float
    told: str  # what a person reads when it begins

    def depth(self, at_s: float) -> float:
        """How far it is on, 0 to 1."""
        return (at_s - self.start_s) / (self.end_s - self.start_s)


#: As shares of the story: what, which camera, from, to, in words.
_SCENES = (
    ("cats", "belt-2", 0.07, 0.10, "camera belt-2 shows cats, which the digit reader has never seen"),
    ("noise", "gate", 0.30, 0.40, "camera gate becomes noisy, more and more"),
    ("dim", "hall", 0.46, 0.53, "camera hall loses a third of its light: most digits are still read rightly"),
    ("frozen", "dock", 0.60, 0.67, "camera dock is frozen: the same image again and again"),
    ("rotated", "press", 0.74, 0.84, "camera press has fallen on its side"),
)


def story(seconds: float) -> tuple[Scene, ...]:
    """All scenes of a story of that length; a short one has only the first, and most of it to recover."""
    if seconds < SHORTEST_WHOLE_S:
        what, camera, _, _, told = _SCENES[0]
        return (Scene(what, camera, seconds / 5, seconds / 4, told),)
    return tuple(
        Scene(what, camera, start * seconds, end * seconds, told) for what, camera, start, end, told in _SCENES
    )


def on_stage(scenes: tuple[Scene, ...], at_s: float) -> Mapping[str, Scene]:
    """By camera: what is shown at that moment; cameras that are not named show digits."""
    return {scene.camera: scene for scene in scenes if scene.start_s <= at_s < scene.end_s}
