"""Tests. Workers that they start share one machine: no HTTP unless a test asks for it."""

import os

os.environ.setdefault("OODWATCH_HTTP__LISTEN", "off")  # noqa: TID251 the children inherit it
