"""Runs the auth service."""

from kit.server import serve
from services.auth.app import build
from services.auth.settings import AuthSettings

if __name__ == "__main__":
    serve("auth", AuthSettings, build)
