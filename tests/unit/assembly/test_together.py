"""Which roles run together, and where they answer."""

import pytest

from pipeline.assembly.together import beside, roles_of
from pipeline.errors import UsageError
from pipeline.settings import Settings


def test_two_processes_of_one_machine_answer_on_two_ports() -> None:
    assert beside("127.0.0.1:9108") == "127.0.0.1:9109"
    assert beside("[::1]:9108") == "[::1]:9109"
    assert [beside(listen) for listen in ("off", "127.0.0.1:0")] == ["off", "127.0.0.1:0"]


def test_without_a_source_nothing_is_started() -> None:
    with pytest.raises(UsageError, match="no source is named"):
        roles_of(Settings())
