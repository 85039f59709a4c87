"""Migrations of the search schema."""
