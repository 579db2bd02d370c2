import numpy as np
import pytest

from pipeline.errors import UsageError
from pipeline.localization.regions import Box
from pipeline.localization.segmenter import Candidate, Picture, Point, Prompt, check_prompt, refine, scaled

HEIGHT, WIDTH = 30, 50
EMPTY = np.zeros((HEIGHT, WIDTH), np.bool_)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (Prompt((Point(20, 40),)), ("point 20,40 lies outside the image of 50 x 30 pixels", "with x and y swapped")),
        (Prompt((Point(60, 70),)), ("point 60,70 lies outside", "count from 0 at the top left")),
        (Prompt((Point(-1, 3),)), ("point -1,3 lies outside",)),
        (Prompt((Point(50, 3),)), ("point 50,3 lies outside",)),
        (Prompt(box=Box(30, 2, 10, 9)), ("box 30,2,10,9 is reversed or empty", "left,top,right,bottom")),
        (Prompt(box=Box(3, 2, 51, 9)), ("box 3,2,51,9 reaches outside",)),
        (Prompt(drawn=np.ones((4, 5), np.bool_)), ("the mask has 5 x 4 pixels, unlike the image of 50 x 30",)),
        (Prompt(drawn=EMPTY), ("the mask is empty", "white on black")),
        (Prompt((Point(1, 1, False),)), ("points say only what the region is not",)),
        (Prompt((Point(float("nan"), 1),)), ("point nan,1 lies outside",)),
    ],
)
def test_what_cannot_be_meant_is_named(prompt: Prompt, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        check_prompt(prompt, HEIGHT, WIDTH)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_hint_of_swapped_coordinates_where_swapping_would_not_help() -> None:
    with pytest.raises(UsageError) as caught:
        check_prompt(Prompt((Point(60, 70),)), HEIGHT, WIDTH)
    assert "swapped" not in str(caught.value)


def test_only_a_lone_click_is_ambiguous() -> None:
    click, box = (Point(1, 1),), Box(0, 0, 5, 5)
    assert Prompt(click).is_ambiguous
    others = (Prompt(click * 2), Prompt(click, box), Prompt(box=box), Prompt(click, drawn=~EMPTY))
    assert not any(prompt.is_ambiguous for prompt in others)


def test_a_prompt_is_scaled_with_its_picture() -> None:
    prompt = scaled(Prompt((Point(10, 20, False),), Box(1, 2, 3, 4), wants_one=True), 0.5, 0.25, None)
    assert prompt.points == (Point(5, 5, False),)
    assert prompt.box == Box(0.5, 0.5, 1.5, 1)
    assert prompt.wants_one


class Recorder:
    """Three candidates for a lone click, one else; remembers what it was asked."""

    name = "recorder"

    def __init__(self) -> None:
        self.asked: list[Prompt] = []

    def segment(self, picture: Picture, prompt: Prompt) -> list[Candidate]:
        self.asked.append(prompt)
        count = 3 if prompt.is_ambiguous else 1
        first = 10 * len(self.asked)
        return [Candidate(EMPTY, 0.5, logits=np.full((2, 2), first + i, np.float32)) for i in range(count)]

    def everything(self, picture: Picture) -> list[Candidate]:
        return []


def test_each_further_click_starts_from_the_mask_before_it() -> None:
    recorder, clicks = Recorder(), (Point(1, 1), Point(2, 2, False), Point(3, 3))
    (found,) = refine(recorder, Picture(np.zeros((30, 50, 3), np.uint8), "k"), Prompt(clicks), 2)
    assert [len(prompt.points) for prompt in recorder.asked] == [1, 2, 3]
    starts = [prompt.previous for prompt in recorder.asked]
    assert starts[0] is None
    assert [None if start is None else start[0, 0] for start in starts] == [None, 12, 20]
    assert found.logits is not None
    assert found.logits[0, 0] == 30


def test_a_refinement_needs_a_further_click_and_a_mask_that_there_is() -> None:
    picture = Picture(np.zeros((30, 50, 3), np.uint8), "k")
    with pytest.raises(UsageError, match="needs a further point"):
        refine(Recorder(), picture, Prompt((Point(1, 1),)), 0)
    with pytest.raises(UsageError, match="--refine 4: the first point has 3 masks"):
        refine(Recorder(), picture, Prompt((Point(1, 1), Point(2, 2))), 3)
