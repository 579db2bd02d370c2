import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped]

from pipeline.alerts.trial import trial
from tests.notified import T0, payload

SCHEMA = json.loads(files("pipeline.alerts").joinpath("webhook_v1.schema.json").read_text())
VALIDATOR = Draft202012Validator(SCHEMA, format_checker=FormatChecker())


def test_the_schema_is_one_and_describes_every_field_that_it_asks_for() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert set(SCHEMA["required"]) <= set(SCHEMA["properties"])
    assert len(SCHEMA["required"]) == 26


@pytest.mark.parametrize(
    "told",
    [
        payload(),
        payload("error", alert=None, value=None, onset=None, cause=None, attribution=None, links=None),
        trial("trigger", deployment="d", now=T0).payload,
        {**trial("resolve", deployment="d", now=T0).payload, "action": "resolve"},
    ],
)
def test_what_is_told_is_of_the_schema(told: Mapping[str, Any]) -> None:
    VALIDATOR.validate(dict(told))


@pytest.mark.parametrize(
    "changed",
    [{"version": 2}, {"severity": "shift"}, {"transition": "7"}, {"fingerprint": ""}, {"at": None}, {"action": "page"},
     {"alert": {"signal": "fraction"}}],
)  # fmt: skip
def test_what_is_not_of_the_schema_is_seen(changed: dict[str, Any]) -> None:
    assert VALIDATOR.is_valid(payload())
    assert not VALIDATOR.is_valid(payload() | changed)


@pytest.mark.parametrize("name", SCHEMA["required"])
def test_no_field_may_be_missing(name: str) -> None:
    assert not VALIDATOR.is_valid({known: value for known, value in payload().items() if known != name})
