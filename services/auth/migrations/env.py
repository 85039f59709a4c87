"""Migrations of the auth service."""

from kit.migrate import run
from services.auth.models import metadata

run(metadata)
