"""Fixtures of real services, for all tests."""

pytest_plugins = ["tests.services.kafka", "tests.services.postgres"]
