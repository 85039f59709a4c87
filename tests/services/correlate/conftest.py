"""Fixtures of the correlate tests."""

from tests.services.correlate.stage import stage

__all__ = ["stage"]
