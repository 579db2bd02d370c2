import json
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from rich.text import Text

from pipeline.cli.output import print_lines


@dataclass(frozen=True)
class Line:
    topic: str
    offset: int
    error: str
    at: datetime
    score: float | None


LINES = [
    Line(
        "images", 7, "the file is truncated somewhere in its second half", datetime(2026, 11, 24, 3, 0, 1, 5, UTC), None
    ),
    Line("images", 123456, "no image", datetime(2026, 11, 24, 3, 0, 2, 5, UTC), -1.18605982525),
]


def printed(capsys: pytest.CaptureFixture[str], lines: list[Line], *, as_json: bool = False) -> list[str]:
    assert print_lines(lines, as_json=as_json, empty="nothing yet") == len(lines)
    return [Text.from_ansi(line).plain.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_on_a_narrow_terminal_nothing_is_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "64")
    assert printed(capsys, LINES) == [
        "topic=images",
        "offset  error                                       at     score",
        "     7  the file is truncated     2026-11-24T03:00:01Z",
        "        somewhere in its second",
        "        half",
        "123456  no image                  2026-11-24T03:00:02Z  -1.18606",
    ]


def test_a_pipe_gets_every_column_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    header, first, _ = printed(capsys, LINES)
    assert header.split() == ["topic", "offset", "error", "at", "score"]
    assert "the file is truncated somewhere in its second half" in first


def test_json_is_exact_and_nothing_is_printed_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = (json.loads(line) for line in printed(capsys, LINES, as_json=True))
    assert first == {
        "topic": "images",
        "offset": 7,
        "error": "the file is truncated somewhere in its second half",
        "at": "2026-11-24T03:00:01.000005Z",
        "score": None,
    }
    assert second["score"] == -1.18605982525
    assert printed(capsys, [], as_json=True) == []
    assert printed(capsys, []) == ["nothing yet"]
