from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from pipeline.alerts.attribution import Counted
from pipeline.alerts.profile import Profile
from pipeline.stages.comparing import Windows, shared_out


def looked(repeats: float = 0.0, scores: int = 4) -> Profile:
    """A thousand images, all of one score bin."""
    found = Profile.empty(2)
    return replace(found, n=1000, repeats=1000 * repeats, histogram=1000 * np.eye(18)[scores])


def windows(now: Mapping[str, Profile], flags: Mapping[str, int]) -> Windows:
    """A thousand images of each segment; 5 % flagged are normal."""
    return Windows(
        before_start=datetime(2026, 11, 24, tzinfo=UTC),
        references=(1,),
        all=Counted(1000 * len(now), sum(flags.values()), 0.05),
        parts={name: Counted(1000, flags[name], 0.05) for name in now},
        before=dict.fromkeys(now, looked()),
        now=now,
        all_before=looked(),
        all_now=looked(),
        rate_before=60,
        rate_now=60,
    )


@pytest.mark.parametrize(
    ("segment", "of"),
    [
        ("", "flagged images above normal"),
        ("gate", "flagged images above normal"),
        ("dock", "images that repeat the one before"),
        ("press", "images whose scores moved"),
        ("hall", "flagged images above normal"),
    ],
)
def test_a_segment_is_shared_out_by_what_it_stands_out_by(segment: str, of: str) -> None:
    now = {"gate": looked(), "dock": looked(repeats=0.9), "press": looked(scores=9), "hall": looked()}
    told = shared_out(windows(now, {"gate": 800, "dock": 0, "press": 50, "hall": 55}), ("a", "b"), 1.0, segment)
    assert told.of == of
    assert not segment or segment in {share.name for share in told.segments}
