"""Migrations of the ingest service."""

from kit.migrate import run
from services.ingest.models import metadata

run(metadata)
