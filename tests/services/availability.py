"""A missing service skips a test on a laptop and fails it where CI is set."""

import os
from typing import NoReturn

import pytest


def unavailable(why: str) -> NoReturn:
    """Skip the test, or fail it where `CI` is set."""
    if os.environ.get("CI"):  # noqa: TID251 tests have no settings
        pytest.fail(why)
    pytest.skip(why)
