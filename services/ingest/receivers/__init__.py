"""Receivers: one wire protocol each, all of them in front of the one intake."""
