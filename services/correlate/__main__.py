"""Runs the correlate target."""

from kit.server import serve
from services.correlate.app import build
from services.correlate.settings import CorrelateSettings

if __name__ == "__main__":
    serve("correlate", CorrelateSettings, build)
