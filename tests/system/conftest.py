"""Fixtures of the system tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.stack import Up
from tests.system.api import Api, open_api


@pytest.fixture(scope="session")
def api(stack: Up) -> Iterator[Api]:
    """The public ports of this worker's stack."""
    with open_api(stack.credentials) as api:
        yield api
