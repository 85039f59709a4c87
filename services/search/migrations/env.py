"""Alembic environment of the search schema."""

from kit.migrate import run
from services.search.models import metadata

run(metadata)
