"""Alembic environment of the correlate schema."""

from kit.migrate import run
from services.correlate.models import metadata

run(metadata)
