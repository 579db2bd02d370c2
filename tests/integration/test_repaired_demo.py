"""The README's repair of the demo, in little."""

from pathlib import Path

import pytest

from tests.demo_repair import run, told

pytestmark = pytest.mark.integration


def test_the_demo_is_repaired_by_the_commands_of_the_readme(tmp_path: Path) -> None:
    ran = list(run(tmp_path, seconds=5, steps=80))
    figures = told(ran)
    for name in ("cats", "lying"):
        before, after = (figures["sets"][name][f"fpr95_{when}"] for when in ("before", "after"))  # type: ignore[index]
        assert after <= min(before, 0.05)
    assert figures["go"] is True
    assert figures["cats_flagged_after_promotion"].endswith(" of 400")  # type: ignore[attr-defined]
    assert int(figures["cats_flagged_after_promotion"].split()[0]) >= 380  # type: ignore[attr-defined]
    assert figures["back_to"] == ran[1].answer["before"]["model"]
