"""Runs the ingest service."""

from kit.server import serve
from services.ingest.app import build
from services.ingest.settings import IngestSettings

if __name__ == "__main__":
    serve("ingest", IngestSettings, build)
