"""Fixtures of all tests; each lives in a module of tests/fixtures."""

from __future__ import annotations

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.fixtures.engines", "tests.fixtures.callers", "tests.fixtures.signin", "tests.fixtures.stack", "tests.fixtures.distribution"]

# How fast an example runs says something about the machine, not about ELIS: speed is measured in benchmarks.
settings.register_profile("elis", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("elis")

_ENGINE_FIXTURES = {"engines", "database_url", "redis_url"}


def pytest_configure() -> None:
    """Logs tracebacks as plain text: the default pictures every local variable, which takes seconds."""
    structlog.configure(processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, structlog.dev.ConsoleRenderer(colors=False)])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that use a real engine."""
    for item in items:
        if _ENGINE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("integration")
