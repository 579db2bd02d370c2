"""The README's repair of the demo, in little."""

from pathlib import Path
from typing import Any

import pytest

from tests.demo_repair import run, told

pytestmark = pytest.mark.integration


def test_the_demo_is_repaired_by_the_commands_of_the_readme(tmp_path: Path) -> None:
    ran = list(run(tmp_path, seconds=5, steps=150))
    figures: dict[str, Any] = told(ran)
    cats, lying = figures["sets"]["cats"], figures["sets"]["lying"]
    assert cats["fpr95_after"] <= cats["fpr95_before"]
    assert lying["fpr95_before"] > 0.8
    assert lying["fpr95_after"] < 0.2
    assert figures["go"] is True
    flagged, scored = map(int, figures["cats_flagged_after_promotion"].split(" of "))
    assert scored == 400
    assert flagged >= 390
    assert figures["back_to"] == ran[1].answer["before"]["model"]
