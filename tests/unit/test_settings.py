import os
from pathlib import Path

import pytest

from pipeline.errors import UsageError
from pipeline.settings import load_settings
from pipeline.storage.engine import make_engine

SERVER = "postgresql+psycopg://oodwatch@db/oodwatch"


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("p@ss:w/rd\n")
    return file


def test_the_password_of_the_file_is_part_of_the_url_and_of_no_text_about_it(password_file: Path) -> None:
    settings = load_settings(database=SERVER, database_password_file=password_file)
    engine = make_engine(settings.database_url)
    assert engine.url.password == "p@ss:w/rd"
    assert engine.url.username == "oodwatch"
    assert str(engine.url) == "postgresql+psycopg://oodwatch:***@db/oodwatch"
    assert "p@ss" not in repr(settings)


@pytest.mark.parametrize(
    ("database", "content", "cure"),
    [
        (SERVER, b"", "write the password into it"),
        (SERVER, b"\n", "write the password into it"),
        (SERVER, b"\xff\xfe\xff", f"user {os.getuid()} may read"),
        (SERVER, None, f"user {os.getuid()} may read"),
        ("postgresql+psycopg://u:other@db/oodwatch", b"secret", "keep one of them"),
        ("sqlite:///scores.db", b"secret", "name a server"),
    ],
)
def test_a_password_file_without_use_is_refused_with_the_cure(
    tmp_path: Path, database: str, content: bytes | None, cure: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match="database_password_file") as refused:
        _ = load_settings(database=database, database_password_file=file).database_url
    assert cure in str(refused.value)
    assert "other" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_password_file_does_not_hide_that_the_url_is_none(password_file: Path) -> None:
    settings = load_settings(database="oodwatch", database_password_file=password_file)
    with pytest.raises(UsageError, match="'oodwatch' is no SQLAlchemy URL"):
        make_engine(settings.database_url)


def test_a_variable_that_is_nearly_a_setting_is_refused_and_one_of_an_orchestrator_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OODWATCH_SERVICE_PORT", "8501")
    monkeypatch.setenv("OODWATCH_DATABASE", "sqlite:///here.db")
    assert load_settings().database == "sqlite:///here.db"
    monkeypatch.setenv("OODWATCH_WORKERS__MAX_BATCH", "3")
    with pytest.raises(UsageError, match=r"OODWATCH_WORKERS__MAX_BATCH.*did you mean OODWATCH_WORKER__MAX_BATCH"):
        load_settings()
