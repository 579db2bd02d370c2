import json
import logging
from collections.abc import Iterator

import pytest

from pipeline.errors import masked
from pipeline.telemetry.logs import configure_logging


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """The loggers are as before afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("pipeline")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    root.handlers = []
    yield
    root.handlers = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def test_json_lines_carry_fields_and_a_time_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    assert configure_logging("auto", "info")  # captured output is no terminal
    log = logging.getLogger("pipeline.test")
    log.warning("offsets %d to %d", 3, 7, extra={"topic": "images", "partition": 2, "start": 3, "end": 7, "owner": "w"})
    log.debug("not said")
    logging.getLogger("alembic").info("not said: a library only warns")
    said = capsys.readouterr().err
    (line,) = [json.loads(text) for text in said.splitlines()]
    assert line["time"].endswith("+00:00")
    assert {name: line[name] for name in ("level", "message", "topic", "partition", "start", "end", "owner")} == {
        "level": "WARNING",
        "message": "offsets 3 to 7",
        "topic": "images",
        "partition": 2,
        "start": 3,
        "end": 7,
        "owner": "w",
    }


def test_text_lines_are_for_people_and_in_utc(capsys: pytest.CaptureFixture[str]) -> None:
    assert not configure_logging("text", "warning")
    record = logging.LogRecord("pipeline.x", logging.WARNING, "", 0, "the database is slow", (), None)
    record.created = 0.0
    logging.getLogger().handle(record)
    logging.getLogger("pipeline.test").info("not said")
    said = capsys.readouterr().err
    assert said == "1970-01-01T00:00:00Z WARNING the database is slow\n"


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_password_reaches_a_log(capsys: pytest.CaptureFixture[str], form: str) -> None:
    configure_logging(form, "info")  # type: ignore[arg-type]
    try:
        raise ValueError("cannot reach postgresql+psycopg://me:s3cr%40t@db/o")
    except ValueError:
        logging.getLogger("pipeline.test").exception("failed with %s", "postgresql://me:s3cr/et@db:5432/o")
    said = capsys.readouterr().err
    assert "s3cr" not in said
    assert said.count("me:***@db") == 3  # message, exception, and the source line in the traceback


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://u:p@h/d is down", "postgresql://u:***@h/d is down"),
        ("a://u:p@ss@h and b://v:q@i", "a://u:***@h and b://v:***@i"),
        ("sqlite:////var/lib/o.db", "sqlite:////var/lib/o.db"),
        ("http://127.0.0.1:9108/livez", "http://127.0.0.1:9108/livez"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
    ],
)
def test_only_passwords_are_masked(text: str, shown: str) -> None:
    assert masked(text) == shown
