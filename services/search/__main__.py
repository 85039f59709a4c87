"""Runs the search target."""

from kit.server import serve
from services.search.app import build
from services.search.settings import SearchSettings

if __name__ == "__main__":
    serve("search", SearchSettings, build)
