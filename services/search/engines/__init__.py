"""Implementations of the Engine interface."""
