"""A source named in one place keeps what is set about Kafka in another."""

from pathlib import Path

import pytest

from pipeline.assembly.parts import settings_from
from pipeline.settings import load_settings

FILE = '[source]\nurl = "kafka://file:1/t"\n[source.kafka]\nsasl_plain_username = "u"\nsession_timeout_ms = 8000\n'


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "oodwatch.toml").write_text(FILE)
    monkeypatch.setenv("OODWATCH_CONFIG", str(tmp_path / "oodwatch.toml"))


def test_a_flag_that_names_the_source_keeps_its_settings() -> None:
    source = settings_from(source="kafka://flag:1/t").source
    assert source.url == "kafka://flag:1/t"
    assert source.kafka == {"sasl_plain_username": "u", "session_timeout_ms": 8000}


@pytest.mark.parametrize("name", ["OODWATCH_SOURCE", "OODWATCH_SOURCE__URL"])
def test_the_environment_adds_to_the_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "kafka://environment:1/t")
    monkeypatch.setenv("OODWATCH_SOURCE__KAFKA__SECURITY_PROTOCOL", "SASL_SSL")
    source = load_settings().source
    assert source.url == "kafka://environment:1/t"
    assert source.kafka == {
        "sasl_plain_username": "u",
        "session_timeout_ms": 8000,
        "security_protocol": "SASL_SSL",
    }
