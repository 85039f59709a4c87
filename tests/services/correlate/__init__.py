"""Tests of the correlate service."""
