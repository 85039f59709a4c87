"""Runs the gateway: `python -m gateway`."""

from gateway.app import build
from gateway.settings import GatewaySettings
from kit.server import serve

if __name__ == "__main__":
    serve("gateway", GatewaySettings, build)
