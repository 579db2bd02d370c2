import json
import re
from datetime import UTC, datetime, timedelta

import numpy as np

from dashboard.changes import Change, Quantile
from dashboard.markup import Thumb
from dashboard.report import Comparison, Side, as_html, as_json
from dashboard.windows import Window

T0 = datetime(2026, 11, 24, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVIL = "<script>alert(1)</script>"


def comparison() -> Comparison:
    fine = np.zeros(256, np.int64)
    fine[100:120] = 10
    thumb = Thumb(b"RIFFwebp", EVIL, EVIL, True)
    changes = [
        Change("unusual images", "segment", EVIL, "2.0 %", "31 %", 0.29, 1e-9, True, 0.21),
        Change("brightness", "everything", "", "mean 0.4", "mean 0.41", 0.004, 1.0),
    ]
    return Comparison(
        deployment=EVIL,
        reference="r1",
        of=EVIL,
        without=[EVIL],
        where=EVIL,
        then=Side(Window(T0, T0 + HOUR), 200, fine, [thumb]),
        now=Side(Window(T0 + HOUR, T0 + 2 * HOUR), 200, np.roll(fine, 9), []),
        d=1.6,
        changes=changes,
        quantiles=[Quantile(0.5, -12.0, -11.0, 0.4, None)],
        fine_edges=np.linspace(-20, 5, 255),
        threshold=-7.5,
        remarks=[EVIL],
    )


def test_the_page_is_one_file_that_asks_no_host_and_runs_no_script() -> None:
    page = as_html(comparison(), T0 + 3 * HOUR)
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert re.findall(r"(?:src|href)=[\"'](?!data:)", page) == []
    assert "url(" not in page
    assert "@import" not in page
    assert page.count('src="data:image/webp;base64,') == 1


def test_what_is_listed_and_what_was_looked_at_besides_are_told_apart() -> None:
    page = as_html(comparison(), T0 + 3 * HOUR)
    assert "1 of 2 things moved by more than 1&nbsp;% beyond chance" in page
    assert "Looked at, and not listed: 1" in page
    assert page.index("0.21") < page.index("mean 0.41")
    assert "+0.40 to …" in page


def test_json_has_the_same_figures_with_windows_in_utc() -> None:
    read = json.loads(as_json(comparison(), T0 + 3 * HOUR))
    assert read["then"] == {"from": "2026-11-24T00:00:00+00:00", "to": "2026-11-24T01:00:00+00:00", "n": 200}
    assert read["method"] == {"wrong_at_most": 0.05, "floor": 0.01, "dispersion": 1.6}
    assert [(one["what"], one["kept"], one["least"]) for one in read["changes"]] == [
        ("unusual images", True, 0.21),
        ("brightness", False, None),
    ]
    assert read["quantiles"] == [{"share": 0.5, "before": -12.0, "now": -11.0, "low": 0.4, "high": None}]
