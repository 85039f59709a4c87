"""Fixtures of the search tests."""

from tests.services.search.stage import stage

__all__ = ["stage"]
