"""Migrations of the correlate schema."""
